"""${message.capitalize()}.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None

expands = False  # True: the release before this one runs on the new schema too


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
