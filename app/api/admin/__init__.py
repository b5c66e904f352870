"""/v1/admin: what operators do, with a token of their own."""

from app.api.admin import audit, deliveries, dispatch, jobs, keys, outputs, plans, prices, users
from app.api.admin.routing import rest_of

_rooms = [
    room.router for room in (plans, users, keys, jobs, outputs, prices, audit, deliveries, dispatch)
]
routers = [*_rooms, rest_of(_rooms)]
