from chapters.channel_attention.cost.measurement import measure_costs
from chapters.channel_attention.cost.reporting import report_costs
from chapters.channel_attention.cost.rows import DEVICES, SECTIONS, CostPlan, CostRow
from chapters.channel_attention.cost.tables import cost_table

__all__ = [
    "DEVICES",
    "SECTIONS",
    "CostPlan",
    "CostRow",
    "cost_table",
    "measure_costs",
    "report_costs",
]
