import sys

from kfp import dsl, local

local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root="out", raise_on_error=True)


@dsl.component(install_kfp_package=False)
def increment(before: int) -> int:
    return before + 1


@dsl.pipeline
def chain() -> int:
    x = increment(before=0)
    for _ in range(int(sys.argv[1]) - 1):
        x = increment(before=x.output)
    return x.output


print(chain().output)
