"""The fast engine. (Until its kernel is committed this is the reference under the same name.)"""

from shared.orderbook.reference import ReferenceBooks


class Books(ReferenceBooks):
    """See shared.orderbook.engine.Engine."""
