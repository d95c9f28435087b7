"""wiring: from configuration to objects. The only room that knows concrete names.

Reads penstock.toml, the environment and flags into `Settings`; a `Project` opens what these name, when it is needed;
`LocalRunner` starts, resumes and plans runs on it. Adapters are imported inside functions because each brings a
library that most runs never need; nothing here closes an import cycle.
"""
