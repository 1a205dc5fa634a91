"""Three libraries' own servers for batches under one roof: odatapy, strawberry and flask-jsonrpc."""

from __future__ import annotations

import importlib
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import strawberry
from flask import Flask, jsonify
from odatapy.data import Entity, ValueType
from odatapy.edm.csdl import (
    CsdlAbstractEdmProvider,
    CsdlEntityContainer,
    CsdlEntitySet,
    CsdlEntityType,
    CsdlProperty,
    CsdlPropertyRef,
    CsdlSchema,
)
from odatapy.server import OData
from odatapy.server.adapters import ODataWSGIApp
from odatapy.server.inmemory import InMemoryDataStore, InMemoryProcessor
from strawberry.flask.views import GraphQLView
from strawberry.schema.config import StrawberryConfig
from werkzeug.middleware.dispatcher import DispatcherMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask.typing import ResponseReturnValue

PRODUCTS = 30


class Catalogue(CsdlAbstractEdmProvider):
    """Products with a number and a name."""

    def get_schemas(self) -> list[CsdlSchema]:
        """Return the one schema."""
        product = CsdlEntityType(
            name="Product",
            key=[CsdlPropertyRef(name="ID")],
            properties=[
                CsdlProperty(name="ID", type="Edm.Int32", nullable=False),
                CsdlProperty(name="Name", type="Edm.String"),
            ],
        )
        container = CsdlEntityContainer(
            name="Container", entity_sets=[CsdlEntitySet(name="Products", type="Demo.Product")]
        )
        return [CsdlSchema(namespace="Demo", entity_types=[product], entity_container=container)]


def make_products() -> list[Entity]:
    """Return the products that are there from the start."""
    products = []
    for number in range(PRODUCTS):
        product = Entity()
        product.set_property("ID", number, ValueType.PRIMITIVE, "Edm.Int32")
        product.set_property("Name", f"product {number}", ValueType.PRIMITIVE, "Edm.String")
        products.append(product)
    return products


def make_odata() -> ODataWSGIApp:
    """Return the OData service."""
    odata = OData.new_instance()
    handler = odata.create_handler(odata.create_service_metadata(Catalogue()))
    store = InMemoryDataStore()
    store.set_entities("Products", make_products())
    handler.register(InMemoryProcessor(store))
    return ODataWSGIApp(handler)


@strawberry.type
class Query:
    """What can be asked."""

    @strawberry.field
    def square(self, number: int) -> int:
        """Return the square; of negative numbers there is none here."""
        if number < 0:
            raise ValueError("negative")
        return number * number


app = Flask(__name__)
schema = strawberry.Schema(Query, config=StrawberryConfig(batching_config={"max_operations": 10}))
app.add_url_rule("/graphql", view_func=GraphQLView.as_view("graphql", schema=schema))


def cube(number: int) -> int:
    """Return the cube."""
    return number**3


try:
    JSONRPC: Any = importlib.import_module("flask_jsonrpc").JSONRPC
except TypeError:
    pass  # version 4.0.0 is compiled in a way that Python 3.13 refuses
else:
    JSONRPC(app, "/rpc").method("cube")(cube)


class Counting:
    """Counts the calls by path, without what only asks for the counts."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Count, and go on."""
        if environ["PATH_INFO"] != "/calls":
            with self._lock:
                self.calls[environ["PATH_INFO"]] += 1
        answer: Iterable[bytes] = self._application(environ, start_response)
        return answer


counting = Counting(DispatcherMiddleware(app, {"/odata": make_odata()}))


@app.get("/calls")
def calls() -> ResponseReturnValue:
    """Tell the counts so far, and begin anew."""
    told = dict(counting.calls)
    counting.calls.clear()
    return jsonify(told)
