"""stores: where runs and values are kept. May know ports, graph and core, and is the only room that opens a database.

`runlog` keeps what happened (SQLite, PostgreSQL, memory) behind `ports.runlog.Store`; what a record or an event means
is decided in ports, never here. Drivers are imported late, with an error that names the extra to install.
"""
