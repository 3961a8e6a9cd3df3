"""
A Kafka cluster of one broker in memory: librdkafka's own mock, with the wire protocol of the real thing.

It prints its address, then obeys lines on stdin and answers `ok`: `down` and `up` close and open its ports,
`errors 87 0` answers the next produce requests with these codes and no others, `topic NAME [PARTITIONS]` makes a topic
of four partitions or as many (each keeps 5 MB of what it was sent, older messages go).
"""

import ctypes
import sys
from pathlib import Path

import confluent_kafka

PRODUCER, PRODUCE_REQUEST, BROKER = 0, 0, 1


def load():
    package = Path(confluent_kafka.__file__).parent
    folders = (package.parent / "confluent_kafka.libs", package / ".dylibs")
    return ctypes.CDLL(str(next(path for folder in folders for path in folder.glob("librdkafka[-.]*"))))


def declare(library):
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("conf_new", pointer, []),
        ("new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("mock_cluster_new", pointer, [pointer, number]),
        ("mock_cluster_bootstraps", text, [pointer]),
        ("mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("mock_broker_set_up", number, [pointer, ctypes.c_int32]),
        ("mock_topic_create", number, [pointer, text, number, number]),
        ("mock_clear_request_errors", None, [pointer, ctypes.c_int16]),
        ("mock_push_request_errors_array", None, [pointer, ctypes.c_int16, ctypes.c_size_t, pointer]),
    ):
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments


def obey(library, cluster, order, *words):
    if order == "down":
        library.rd_kafka_mock_broker_set_down(cluster, BROKER)
    elif order == "up":
        library.rd_kafka_mock_broker_set_up(cluster, BROKER)
    elif order == "topic":
        library.rd_kafka_mock_topic_create(cluster, words[0].encode(), int(words[1]) if words[1:] else 4, 1)
    elif order == "errors":
        library.rd_kafka_mock_clear_request_errors(cluster, PRODUCE_REQUEST)
        codes = (ctypes.c_int32 * len(words))(*map(int, words))
        library.rd_kafka_mock_push_request_errors_array(cluster, PRODUCE_REQUEST, len(words), codes)


def main():
    library = load()
    declare(library)
    handle = library.rd_kafka_new(PRODUCER, library.rd_kafka_conf_new(), ctypes.create_string_buffer(512), 512)
    cluster = library.rd_kafka_mock_cluster_new(handle, 1)
    print(library.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
    for line in sys.stdin:
        obey(library, cluster, *line.split())
        print("ok", flush=True)


if __name__ == "__main__":
    main()
