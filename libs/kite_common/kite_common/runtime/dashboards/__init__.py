"""What there is to see of Kite, as one typed list of dashboards; deploy/observe/dashboards is written from it."""

from typing import Final

from kite_common.runtime.dashboards.delivery import DELIVERY
from kite_common.runtime.dashboards.lag import LAG
from kite_common.runtime.dashboards.money import MONEY
from kite_common.runtime.dashboards.panels import Dashboard
from kite_common.runtime.dashboards.slo import SLO
from kite_common.runtime.dashboards.traffic import TRAFFIC

DASHBOARDS: Final[tuple[Dashboard, ...]] = (TRAFFIC, MONEY, DELIVERY, LAG, SLO)
