"""Speed and memory of training, as ratios within one process: `make bench`.

timing.py      rounds that take turns, so that a drift of the machine falls on all alike
machine.py     what is measured on, and whether it is idle
laws.py        the scaling-law fitter: seconds, coverage of its intervals, and the package chinchilla beside it
ours.py        the loop of `mlp_lib.train` beside a bare one, both precisions, and this process's matrix products
others.py      torch's DataLoader with torchvision's transforms, and a loop in the paper's own manner
memory.py      the peak of a training in a process of its own
inference.py   forward passes of several networks in turns: `python -m mlp_lib study rq1-inference`
store.py       20 tiny runs beside 10,000 records, over the same beside none: `python -m benchmarks.store`
suite.py       sizes, thresholds, and the file of results
"""
