"""
The ways in which a component may misbehave around its streams, each mixed into any kind of component.

Invariant: what is overridden here is what LiveKit and its users call on a component; its streams behave as they like.
"""

from __future__ import annotations


class EmitRaises:
    def emit(self, event, *args):
        super().emit(event, *args)
        raise ValueError("an overridden emit")


class EmitsTwice:
    def emit(self, event, *args):
        super().emit(event, *args)
        super().emit(event, *args)


class EmitsNothing:
    def emit(self, event, *args):
        pass


class EmitsWrongly:
    def emit(self, event, *args):
        super().emit(event, *args, surplus=1)


class ListenerRaises:
    def on(self, event, callback=None):
        def raising(happening):
            callback(happening)
            raise TypeError("a listener's own")

        return super().on(event, raising)


class HasNoModel:
    @property
    def model(self):
        raise ValueError("no model")


class WillNotOpen:
    def __init__(self, kind):
        super().__init__(kind)
        self.open = self._refuse

    def _refuse(self, *_, **__):
        raise ValueError("not today")


MISBEHAVIOURS = (EmitRaises, EmitsTwice, EmitsNothing, EmitsWrongly, ListenerRaises, HasNoModel, WillNotOpen)
