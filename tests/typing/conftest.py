"""The files below must_pass and must_fail are read by type checkers, never run."""

collect_ignore_glob = ["must_*"]
