import resource
import subprocess
import sys

import pytest

SHOWN = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
RAISED = "from crossdock.cli.open_files import allow_many_open_files; allow_many_open_files(); "


@pytest.mark.parametrize(
    ("soft", "hard", "then"), [(256, 512, 512), (512, 512, 512), (256, 4_096, 4_096), (1_000, 100_000, 65_536)]
)
def test_a_process_takes_the_open_files_that_it_may_have(soft: int, hard: int, then: int) -> None:
    _, ours = resource.getrlimit(resource.RLIMIT_NOFILE)
    if ours != resource.RLIM_INFINITY and ours < hard:
        pytest.skip(f"this machine allows {ours} open files, fewer than the {hard} of the example")
    code = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); {RAISED}{SHOWN}"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == [str(then), str(hard)]
