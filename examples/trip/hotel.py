"""The hotel of the trips. It needs nothing of Waybill but the message contract: batches of CloudEvents in JSON, on JetStream.

Commands may come twice, late, and in another order. One row a trip decides: what was replied stands, and what was cancelled, even before it
was booked, is never booked again. Replies are sent once that row is written, and the message is acknowledged last. What cannot be read
goes to the dead letters. NATS_URL and HOTEL_DATABASE (a file) say where everything is.

    pip install nats-py && NATS_URL=nats://127.0.0.1:4222 python3 hotel.py
"""

import asyncio
import json
import os
import sqlite3
from datetime import datetime, timezone

import nats


def reply_to(command, before):
    """The type and data of the reply to a command; `before`: what was replied last about this trip."""
    data, trip = command["data"], {"trip_id": command["data"]["trip_id"]}
    if command["type"] == "trip.hotel.cancel.v1":
        return ["trip.hotel.cancelled.v1", trip]
    if command["type"] != "trip.hotel.book.v1":
        raise ValueError(f"{command['type']} is not known here")
    if data["to"] == "Atlantis" and not before:
        return ["trip.hotel.refused.v1", trip | {"reason": "every room is under water"}]
    return before or ["trip.hotel.booked.v1", trip | {"reference": f"room-{trip['trip_id']}", "cents": data["nights"] * 9_000}]


def handle(database, command):
    """Decides one command, and returns the reply as a CloudEvent."""
    trip = command["data"]["trip_id"]
    row = database.execute("select reply from trips where trip = ?", [trip]).fetchone()
    kind, data = reply = reply_to(command, json.loads(row[0]) if row else None)
    event = {"id": command["id"], "subject": command["subject"], "time": datetime.now(timezone.utc).isoformat(), "type": kind}
    event |= {name: command[name] for name in ("traceparent", "tracestate") if name in command}
    database.execute("insert or replace into trips values (?, ?)", [trip, json.dumps(reply)])
    return event | {"specversion": "1.0", "source": "/trip/hotel", "data": data}


def handle_all(database, message):
    """Decides the commands of a message. Returns the replies, and what cannot be read, each as a message of its own, with why."""
    replies, unread = [], []
    try:
        for command in json.loads(message.data):
            try:
                replies.append(handle(database, command))
            except (KeyError, TypeError, ValueError) as error:
                unread.append((json.dumps([command]).encode(), error))
    except (TypeError, ValueError) as error:
        unread.append((message.data, error))
    return replies, unread


async def main():
    database = sqlite3.connect(os.environ.get("HOTEL_DATABASE", "hotel.sqlite"))
    database.execute("create table if not exists trips (trip text primary key, reply text not null)")
    broker = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222").split(","), max_reconnect_attempts=-1)
    stream = broker.jetstream()
    commands = await stream.pull_subscribe_bind("hotel", stream="HOTEL_COMMANDS")
    while True:
        try:
            for message in await commands.fetch(batch=16, timeout=5):
                with database:
                    replies, unread = handle_all(database, message)
                for letter, error in unread:
                    why = {"Waybill-Reason": repr(error)[:500], "Waybill-Stream": "HOTEL_COMMANDS", "Waybill-Consumer": "hotel"}
                    await stream.publish("dead.HOTEL_COMMANDS.hotel", letter, headers=why | {"Waybill-Subject": message.subject})
                if replies:
                    await stream.publish("replies.hotel", json.dumps(replies).encode(), headers={"Content-Type": "application/cloudevents-batch+json"})
                await message.ack()
        except nats.errors.TimeoutError:
            pass  # nobody asks
        except nats.errors.Error as error:
            print(f"{error!r}; it comes again", flush=True)
            await asyncio.sleep(1)


asyncio.run(main())
