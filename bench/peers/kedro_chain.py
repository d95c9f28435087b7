import sys

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner
from kedro_datasets.pickle import PickleDataset


def increment(before):
    return before + 1


steps = int(sys.argv[1])
chain = Pipeline([node(increment, f"x{n - 1}", f"x{n}", name=f"increment_{n}") for n in range(1, steps + 1)])
catalog = DataCatalog({f"x{n}": PickleDataset(filepath=f"out/x{n}.pkl") for n in range(steps + 1)})
catalog["x0"].save(0)
SequentialRunner().run(chain, catalog)
print(catalog["x" + str(steps)].load())
