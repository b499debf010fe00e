"""Where the rows of a run go besides `metrics.jsonl`: one file a service, named in `log: [tensorboard]`."""
