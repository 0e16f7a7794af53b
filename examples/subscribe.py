"""Reads predictions: python3 examples/subscribe.py [ENDPOINT] [MESSAGES] [TOPIC …].  Needs numpy and pyzmq.

Further topics, such as `latents`, are printed too, and not counted among the messages."""
import json
import sys
import time

import numpy as np
import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5571"
limit = int(sys.argv[2]) if len(sys.argv) > 2 else None
socket = zmq.Context().socket(zmq.SUB)
socket.connect(endpoint)
for topic in ("hello", "prediction", *sys.argv[3:]):
    socket.subscribe(topic)

header_type, expected, received = None, None, 0
while limit is None or received < limit:
    topic, *frames = socket.recv_multipart()
    if topic == b"hello":
        hello = json.loads(frames[0])
        header_type = np.dtype([tuple(field) for field in hello["header"]])
        if received == 0:
            print(f"hello: {hello['model']['description']}, {len(hello['unit_ids'])} units", flush=True)
    elif header_type is not None:
        header = np.frombuffer(frames[0], header_type)[0]
        array = np.frombuffer(frames[1], "<f4").reshape(header["bins"], header["units"])
        if topic != b"prediction":
            print(f"{topic.decode()} bin {header['bin_index']} sequence {header['sequence']} flags {header['flags']:#x} "
                  f"{array.shape}: {np.array2string(array[-1, :8], precision=3)}", flush=True)
            continue
        log_rates = array
        latency_ms = (time.monotonic_ns() - int(header["ingest_ns"])) / 1e6  # on the same machine only
        lost = 0 if expected is None else int(header["sequence"]) - expected
        expected, received = int(header["sequence"]) + 1, received + 1
        spikes = np.exp(log_rates).sum()
        print(f"bin {header['bin_index']} sequence {header['sequence']} lost {lost} flags {header['flags']:#x} "
              f"latency {latency_ms:.2f} ms, {spikes:.1f} spikes expected in {header['bins']} bins", flush=True)
