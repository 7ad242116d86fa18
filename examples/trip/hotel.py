"""The hotel of the trips. It needs nothing of Waybill but the message contract: batches of CloudEvents in JSON, on JetStream.

Commands may come twice, late, and in another order. One row a trip decides: what was replied stands, and what was cancelled, even before it
was booked, is never booked again. Replies are sent only once that row is written, and the command is acknowledged last.

    pip install nats-py
    NATS_URL=nats://127.0.0.1:4222 HOTEL_DATABASE=hotel.sqlite python3 hotel.py
"""

import asyncio
import json
import os
import signal
import sqlite3
import sys
from datetime import datetime, timezone

import nats
from nats.errors import Error, TimeoutError

CENTS_A_NIGHT = 9_000


def reply_to(command, before):
    """The type and data of the reply to a command; `before`: what was replied last about this trip."""
    data = command["data"]
    trip = {"trip_id": data["trip_id"]}
    if command["type"] == "trip.hotel.cancel.v1":
        return ["trip.hotel.cancelled.v1", trip]
    if command["type"] != "trip.hotel.book.v1":
        raise ValueError(f"{command['type']} is not known here")
    if before:
        return before
    if data["to"] == "Atlantis":
        return ["trip.hotel.refused.v1", trip | {"reason": "every room is under water"}]
    return ["trip.hotel.booked.v1", trip | {"reference": f"room-{trip['trip_id']}", "cents": data["nights"] * CENTS_A_NIGHT}]


def handle(database, command):
    """Decides one command, and returns the reply as a CloudEvent."""
    trip = command["data"]["trip_id"]
    row = database.execute("select reply from trips where trip = ?", [trip]).fetchone()
    kind, data = reply = reply_to(command, json.loads(row[0]) if row else None)
    database.execute("insert or replace into trips values (?, ?)", [trip, json.dumps(reply)])
    event = {"specversion": "1.0", "id": command["id"], "source": "/trip/hotel", "type": kind, "subject": command["subject"]}
    trace = {"traceparent": command["traceparent"]} if "traceparent" in command else {}
    return event | trace | {"time": datetime.now(timezone.utc).isoformat(), "data": data}


async def main():
    database = sqlite3.connect(os.environ.get("HOTEL_DATABASE", "hotel.sqlite"))
    database.execute("create table if not exists trips (trip text primary key, reply text not null)")
    broker = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222").split(","), max_reconnect_attempts=-1)
    stream = broker.jetstream()
    commands = await stream.pull_subscribe_bind("hotel", stream="HOTEL_COMMANDS")
    print("the hotel is open", flush=True)
    while True:
        try:
            for message in await commands.fetch(batch=16, timeout=5):
                with database:
                    replies = [handle(database, command) for command in json.loads(message.data)]
                headers = {"Content-Type": "application/cloudevents-batch+json"}
                await stream.publish("replies.hotel", json.dumps(replies).encode(), headers=headers)
                await message.ack()
        except TimeoutError:
            pass  # nobody asks
        except (Error, KeyError, ValueError) as error:
            print(f"{error!r}; it comes again", file=sys.stderr, flush=True)
            await asyncio.sleep(1)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
asyncio.run(main())
