"""Ask a server for the missing end of a fact.

    MOMOK_KEY=… python examples/client.py http://127.0.0.1:8000 --head Norway --relation borders -k 5

Needs ``pip install 'momok[client]'``.
"""

from __future__ import annotations

import argparse
import os
import sys

from momok.client import Client, ClientError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url")
    parser.add_argument("--relation", required=True)
    end = parser.add_mutually_exclusive_group(required=True)
    end.add_argument("--head")
    end.add_argument("--tail")
    parser.add_argument("-k", type=int, default=10)
    arguments = parser.parse_args()
    given = {"head": arguments.head} if arguments.head else {"tail": arguments.tail}
    query = {"relation": arguments.relation, **given}
    with Client(arguments.url, key=os.environ.get("MOMOK_KEY")) as client:
        try:
            (answer,) = client.predict([query], k=arguments.k).answers
        except ClientError as error:
            sys.exit(str(error))
    for offer in answer.candidates:
        trusted = offer.modality_weights or {}
        most = max(trusted, key=trusted.__getitem__, default="-")
        print(f"{offer.rank:3}  {offer.score:9.4f}  {offer.entity.label}  (most trusted: {most})")


if __name__ == "__main__":
    main()
