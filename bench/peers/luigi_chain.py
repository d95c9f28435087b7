import sys

import luigi


class Increment(luigi.Task):
    number = luigi.IntParameter()

    def requires(self):
        return Increment(self.number - 1) if self.number > 1 else []

    def output(self):
        return luigi.LocalTarget(f"out/{self.number}.txt")

    def run(self):
        before = 0
        if self.number > 1:
            with self.input().open() as file:
                before = int(file.read())
        with self.output().open("w") as file:
            file.write(str(before + 1))


steps = int(sys.argv[1])
assert luigi.build([Increment(steps)], local_scheduler=True, log_level="WARNING")
with Increment(steps).output().open() as file:
    print(file.read())
