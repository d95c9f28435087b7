"""The text of the Dockerfile and of its .dockerignore: the same recipe, the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from .contents import NEVER

UID = 10001
APP = "/app"
HOME = "/var/lib/penstock"
MARK = "# Written by `penstock build`"
REVISION = "REVISION"  # the build argument that carries the commit


class Recipe(msgspec.Struct, frozen=True):
    """What an image is made of."""

    title: str
    base: str
    penstock: str
    requirements: bool = True  # requirements.txt has lines
    hashed: bool = False
    complete: bool = True
    wheels: bool = False
    pip_conf: bool = False
    import_folders: tuple[str, ...] = ()
    asked_for: tuple[str, ...] = ()  # files that .dockerignore's patterns would take, and the user wants

    def dockerfile(self) -> str:
        return "\n".join([_head(self), _packages(self), _image(self)])

    def dockerignore(self) -> str:
        lines = [
            MARK,
            "# Only what the Dockerfile copies; whatever else gets into this folder stays out of the image.",
            "*",
            *("!requirements.txt", "!additions.txt", "!wheels", "!project"),
            *(f"**/{name}" for name in NEVER),
            *("**/*.pyc", "**/.env", "**/.env.*", "**/*.pem", "**/*.key", "**/.netrc", "**/.pypirc", "**/secrets"),
            *(f"!project/{path}" for path in self.asked_for),
        ]
        return "\n".join(lines) + "\n"


def _head(recipe: Recipe) -> str:
    return f"""\
{MARK}; building again writes it again. By hand, in this folder:
#   docker build --build-arg {REVISION}="$(git rev-parse HEAD)" --tag NAME .
"""


def _packages(recipe: Recipe) -> str:
    mount = "--mount=type=secret,id=pip.conf,target=/etc/pip.conf " if recipe.pip_conf else ""
    exact = "--no-deps " if recipe.complete else ""
    hashes = "--require-hashes " if recipe.hashed else ""
    install = f"RUN {mount}python -m pip --python /opt/venv/bin/python install {exact}"
    lines = [
        "# The packages, in a stage of their own: what only installing needs is not in the image.",
        f"FROM {recipe.base} AS packages",
        "ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1",
        "RUN python -m venv --without-pip /opt/venv",
        "WORKDIR /build",
    ]
    if recipe.requirements:
        lines += [
            "# Dependencies before code: this layer is made again when requirements.txt changes, not when code does.",
            "COPY requirements.txt ./",
            f"{install}{hashes}--requirement requirements.txt",
        ]
    lines += [
        "# penstock, in the version that writes the manifests, and what it needs besides.",
        "COPY additions.txt ./",
        *(["COPY wheels/ ./wheels/"] if recipe.wheels else []),
        f"{install}--requirement additions.txt",
        "",
    ]
    return "\n".join(lines)


def _image(recipe: Recipe) -> str:
    path = ":".join(_joined(folder) for folder in recipe.import_folders)
    variables = {
        "PATH": "/opt/venv/bin:$PATH",
        "HOME": HOME,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **({"PYTHONPATH": path} if path else {}),
        "PENSTOCK_ROOT": APP,
        "PENSTOCK_HOME": HOME,
    }
    shown = " \\\n    ".join(f"{name}={value}" for name, value in variables.items())
    return f"""\
FROM {recipe.base}
# Steps run as a user without rights. Its folder is the only one that it may write to, under any other user id too
# if that has group 0, as some clusters give.
RUN useradd --uid {UID} --no-create-home --home-dir {HOME} --shell /usr/sbin/nologin penstock \\
 && install --directory --owner={UID} --group=0 --mode=0775 {HOME}
COPY --from=packages /opt/venv /opt/venv
ENV {shown}
# The project's code comes last, for it changes most. It belongs to root: no step can change it.
WORKDIR {APP}
COPY project/ ./
USER {UID}:{UID}
# Engines give the whole command: python -P -m penstock exec-step ...
ENTRYPOINT []
CMD ["penstock", "doctor"]
ARG {REVISION}=unknown
LABEL org.opencontainers.image.title={_quoted(recipe.title)} \\
      org.opencontainers.image.revision=${REVISION} \\
      penstock.version={_quoted(recipe.penstock)}
"""


def requirement_file(first: str, lines: Sequence[str]) -> str:
    """A requirements file with a first line that says where it is from."""
    return "\n".join([f"# {first}", *lines]) + "\n"


def _joined(folder: str) -> str:
    return APP if folder == "." else f"{APP}/{folder}"


def _quoted(text: str) -> str:
    return json.dumps(text.replace("$", ""), ensure_ascii=False)
