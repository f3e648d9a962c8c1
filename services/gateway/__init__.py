"""Gateway: `{feed:NN}:out` (and `:in` where orders are wanted) in; Server-Sent Events, REST and the page out."""
