"""A node of an earlier release: work of another shape, steps of other names. Its second analysis lasts."""

EARLIER = """
import sys, time
import dicom_node.workflow.engine as engine
engine.SHAPE = "1"
step = engine.DurableEngine.step
def earlier_step(self, name, *arguments, **more):
    return step(self, "earlier " + name, *arguments, **more)
engine.DurableEngine.step = earlier_step
import dicom_node.workflow.stations as stations
analyse, begun = stations.analyse, []
def slow(*arguments, **more):
    begun.append(1)
    time.sleep(3600 if len(begun) > 1 else 0)
    return analyse(*arguments, **more)
stations.analyse = slow
from dicom_node.cli import app
app()
"""
