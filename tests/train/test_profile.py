import torch
from torch.profiler import record_function

from train.profile import MEASURED, PHASES, SKIPPED, step_profiler


def test_the_table_says_where_a_step_spends_its_time(capsys):
    profiler = step_profiler(torch.device("cpu"))
    matrix = torch.rand(120, 120)
    profiler.start()
    for _ in range(SKIPPED + 1 + MEASURED + 1):
        for repeats, phase in zip((1, 30, 60, 1), PHASES):
            with record_function(phase):
                for _ in range(repeats):
                    matrix = (matrix @ matrix).softmax(1)
        profiler.step()
    profiler.stop()
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert rows[0] == ["phase", "ms", "share"] and [row[0] for row in rows[2:]] == list(PHASES)
    assert abs(sum(float(row[2].removesuffix("%")) for row in rows[2:]) - 100) <= 2
