"""`mbo bench engine|pipeline|persist|sse`: each checks its result. In: a DBN file or a simulated market; out: JSON."""
