"""Jobs: what they are, how they move, and every transaction that moves them.

Where to find each step of a job's life

- accepted: `intake` checks and prices it, `batch` writes it with its hold and its key
- claimed: `queue.submits` and `queue.polls`; `waiting` says who is next to be sent,
  `timing.poll_times` who is next to be polled, `lanes` whether anything may go at all
- sent: `worker.dispatcher`
- polled: `worker.poller` and `worker.look`, which also passes on the owner's cancel
- moved and ended: `state` has the moves, `outcomes` what an answer means, `recorder` writes it;
  `queue.sweeps` moves those whose time is up, `operations.operator` those an operator moves by
  hand, `service` those cancelled before they were sent, and `moves` writes what follows
- charged: `quotas.ledger.hold_all` at accept, `quotas.ledger.end_all` at its end
- announced: `announce`, to the event log and to the webhooks' `outbox`
- read: `service` and `feed`; `wire` is how clients see it
- deleted: `service.erase`, or `retention` once it is old
"""
