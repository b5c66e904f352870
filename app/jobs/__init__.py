"""Jobs: what they are, how they move, and every transaction that moves them.

Where a job is

- accepted: `intake` checks and prices it, `batch` writes it with its hold and its key
- claimed: `queue.submits` and `queue.polls`; `waiting` says who is next to be sent,
  `timing.poll_times` who is next to be polled, `lanes` whether anything may go at all
- sent: `worker.dispatcher`
- polled: `worker.poller` and `worker.look`, which passes the owner's cancel on, too
- moved and ended: `state` has the moves, `outcomes` what an answer means, `recorder` writes it;
  `queue.sweeps` moves those whose time is over, `operations.operator` by hand, `service` those
  that are cancelled unsent, and `moves` writes what follows
- charged: `quotas.ledger.hold_all` at accept, `quotas.ledger.end_all` at its end
- announced: `announce`, to the log of events and to the webhooks' `outbox`
- read: `service` and `feed`; `wire` is how clients see it
- deleted: `service.erase`, or `retention` in time
"""
