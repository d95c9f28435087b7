"""engines: installs and starts the real engines that the tests and a curious reader run pipelines on.

Tooling beside the library: it is in no wheel, it needs only the standard library, and it knows nothing of penstock.
Each engine has an environment of its own under `.engines/`, so that none of them is ever imported by the project.
"""
