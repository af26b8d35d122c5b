from emseg.frequency.cost.measurement import measure_costs
from emseg.frequency.cost.reporting import report_costs
from emseg.frequency.cost.rows import DEVICES, SECTIONS, CostPlan, CostRow
from emseg.frequency.cost.tables import cost_table

__all__ = [
    "DEVICES",
    "SECTIONS",
    "CostPlan",
    "CostRow",
    "cost_table",
    "measure_costs",
    "report_costs",
]
