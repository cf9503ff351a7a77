"""A service's health check as the words that run in its container."""

from collections.abc import Callable

from harness.model.composition import Composition, Unit
from harness.planning.composition import render

_PYTHON = "import sys, urllib.request as u; sys.exit(u.urlopen(sys.argv[1], timeout=float(sys.argv[2])).status != 200)"
_BASH = (
    "exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3"
    ' && read -r _ status _ <&3 && [ "$status" = 200 ]'
)
Setting = Callable[[str, str], str]
Literal = Callable[[str], str]


def health_test(unit: Unit, composition: Composition, *, setting: Setting, literal: Literal) -> list[str]:
    """Return the engine's `test`: CMD and its words, or CMD-SHELL and a line.

    `setting` and `literal` are those of `harness.planning.composition.render`.
    """
    health = unit.service.health

    def told(text: str) -> str:
        return render(text, unit, composition, setting=setting, literal=literal)

    if health.kind == "command":
        return ["CMD-SHELL", told(health.line)]
    number = unit.service.port(health.port).number
    url = told(f"http://127.0.0.1:{number}{health.path}")
    seconds = f"{health.timeout_s:g}"
    if health.tool == "bash":
        line = literal(_BASH.format(port=number, path="\0")).replace("\0", told(health.path))
        return ["CMD", "bash", "-c", line]
    words = {
        "wget": ["wget", "-q", "-T", seconds, "-O", "/dev/null", url],
        "curl": ["curl", "-fsS", "--noproxy", "*", "-m", seconds, "-o", "/dev/null", url],
        "python": ["python3", "-c", literal(_PYTHON), url, seconds],
    }
    return ["CMD", *words[health.tool]]
