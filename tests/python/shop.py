"""Buys something with a client that was generated from the OpenAPI document, and hears of it from the broker.

Arguments: the folder of the generated package, the address of the gateway, the address of the broker.
"""

import asyncio
import json
import sys

sys.path.insert(0, sys.argv[1])

import nats
from waybill_client import Client
from waybill_client.api.orders import cancel_order, order_history, show_order, submit_order
from waybill_client.api.products import create_product, show_product
from waybill_client.api.users import create_user, validate_user
from waybill_client.models import NewItem, NewOrder, NewProduct, NewUser, Price, PriceCurrency, Problem


async def main() -> None:
    shop = Client(base_url=sys.argv[2])
    user = create_user.sync(client=shop, body=NewUser(email="ada@example.com", name="Ada Lovelace"), idempotency_key="ada")
    again = create_user.sync(client=shop, body=NewUser(email="ada@example.com", name="Ada Lovelace"), idempotency_key="ada")
    assert user.id == again.id, "the same key, the same user"
    assert validate_user.sync(id=user.id, client=shop).valid
    kettle = NewProduct(name="Kettle", price=Price(amount=1999, currency=PriceCurrency.USD), stock=3)
    product = create_product.sync(client=shop, body=kettle)
    assert (product.price.amount, product.stock) == (1999, 3)

    broker = await nats.connect(sys.argv[3])
    heard = await broker.subscribe("events.order.>")
    await broker.flush()
    order = submit_order.sync(
        client=shop, body=NewOrder(user_id=user.id, items=[NewItem(product_id=product.id, quantity=2)]), prefer="wait=20"
    )
    assert (order.status, order.total.amount) == ("confirmed", 3998), order
    assert show_order.sync(id=order.id, client=shop).items[0].unit_price.amount == 1999
    assert len(order_history.sync(id=order.id, client=shop).items) >= 3

    words = []
    while not words or words[-1] != "confirmed":
        message = await heard.next_msg(timeout=20)
        event = json.loads(message.data)
        assert message.headers["ce-type"] == f"waybill.order.{message.subject.split('.')[2]}.v1", message.headers
        assert event["order_id"] == str(order.id), event
        words.append(message.subject.split(".")[2])
    assert words == ["placed", "confirmed"], words
    assert event["total"] == {"amount": 3998, "currency": "USD"}, event

    too_many = submit_order.sync(
        client=shop, body=NewOrder(user_id=user.id, items=[NewItem(product_id=product.id, quantity=9)]), prefer="wait=20"
    )
    assert (too_many.status, too_many.reason.code) == ("rejected", "insufficient_stock"), too_many
    refused = cancel_order.sync(id=too_many.id, client=shop)
    assert isinstance(refused, Problem) or "too-late-to-cancel" in str(refused), refused
    cancel_order.sync(id=order.id, client=shop)
    while show_product.sync(id=product.id, client=shop).stock != 3:
        await asyncio.sleep(0.05)
    await broker.close()
    print("bought, heard, cancelled")


asyncio.run(asyncio.wait_for(main(), 60))
