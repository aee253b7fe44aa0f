"""Read by the tests of the text report; not run."""


def transfer(giver, taker, amount):
    with giver.lock:
        giver.balance -= amount
        with taker.lock:  # the other way round elsewhere
            taker.balance += amount


def parse(page):
	tree = build(page)
	return tree
