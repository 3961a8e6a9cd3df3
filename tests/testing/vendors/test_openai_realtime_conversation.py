"""The conversation of a simulated realtime session: what is in it, what reading it costs, and who may say what."""

from livekit import rtc
from livekit.agents import llm as lk_llm

from livekit_costmeter.testing import LoopbackProviders, RealtimeScript, Reply, Script
from livekit_costmeter.testing.audio import tone
from livekit_costmeter.testing.vendors.tokens import count

GREETING = "Good morning, how can I help you?"
STORY = "It began a long time ago, with ships from every country. " * 8
RATE = 24_000


def scripted(**options):
    return Script(realtime=RealtimeScript(**options))


async def test_every_response_reads_the_whole_conversation(session, hear_out, speak, reported):
    """The second answer pays for the first question and answer again, as far as they are not cached."""
    replies = [GREETING, Reply("Yes.", cached_tokens=60)]
    async with LoopbackProviders(scripted(replies=replies)) as providers, session(providers) as seen:
        for _ in range(2):
            speak(seen.session, 1.0)
            await hear_out(await seen.generations.get())
    first, second = providers.ledger.select(component="realtime")
    spoken = first.quantities["output_audio_tokens"]
    read = {unit: second.quantities[unit] for unit in second.quantities if "input" in unit}
    assert read["cached_input_tokens"] + read["cached_input_audio_tokens"] == 60
    assert read["input_audio_tokens"] + read["cached_input_audio_tokens"] == 10 + spoken + 10
    assert second.quantities == reported(seen.metrics[-1])


async def test_written_items_are_read_deleted_and_never_doubled(session, hear_out, reported):
    """The client edits the conversation, and pays for what is in it when a response is made."""
    async with LoopbackProviders() as providers, session(providers) as seen:
        spent = []
        for text in ("A table for four, please.", None):
            chat = lk_llm.ChatContext.empty()
            if text:
                chat.add_message(role="user", content=text)
            await seen.session.update_chat_ctx(chat)
            await hear_out(await seen.session.generate_reply())
            spent.append(reported(seen.metrics[-1]))
    assert spent[0]["input_tokens"] == count("A table for four, please.") + 3 + 3
    assert spent[1] == {**spent[0], "input_tokens": 3}


async def test_what_was_not_heard_is_not_read_again(socket, received):
    """A spoken answer that the client cuts costs the next response only what is left of it."""
    async with LoopbackProviders(scripted(replies=[STORY])) as providers, socket(providers) as connection:
        await connection.send_json({"type": "response.create"})
        spoken = await received(connection, "response.output_item.done")
        cut = {"item_id": spoken["item"]["id"], "content_index": 0, "audio_end_ms": 500}
        await connection.send_json({"type": "conversation.item.truncate", **cut})
        assert (await received(connection, "conversation.item.truncated"))["audio_end_ms"] == 500
        await connection.send_json({"type": "response.create"})
        done = await received(connection, "response.done")
    assert done["response"]["usage"]["input_token_details"]["audio_tokens"] == 10


async def test_items_keep_the_order_that_the_client_gives_them(socket):
    """An item goes to the end, to the front, or behind another; an id can be used once."""
    async with LoopbackProviders() as providers, socket(providers) as connection:
        placed = []
        for name, after in (("b", None), ("a", "root"), ("ab", "a"), ("ab", "a")):
            item = {"id": name, "type": "message", "role": "user", "content": [{"type": "input_text", "text": name}]}
            create = {"type": "conversation.item.create", "item": item, "previous_item_id": after}
            await connection.send_json(create)
            answer = await connection.receive_json(timeout=5)
            placed.append(answer.get("previous_item_id", answer.get("error", {}).get("code")))
    assert placed == [None, None, "a", "item_create_duplicate_item_id"]


async def test_turns_can_be_the_clients_business(session, hear_out, speak):
    """Without turn detection the server listens until the client commits, and answers when it is asked."""
    async with LoopbackProviders() as providers, session(providers, turn_detection=None) as seen:
        seen.session.push_audio(rtc.AudioFrame(tone(RATE, RATE), RATE, 1, RATE))
        seen.session.clear_audio()
        speak(seen.session, 1.0)
        seen.session.commit_audio()
        await hear_out(await seen.session.generate_reply())
    heard, answered = providers.ledger.entries
    assert heard.quantities["audio_seconds"] == 2
    assert answered.quantities["input_audio_tokens"] == 20
    assert not [event for event in seen.events if event["type"].startswith("input_audio_buffer.speech")]


async def test_what_is_not_simulated_is_refused_openly(socket):
    """Unknown events, images and items that do not exist are answered with an error; no key, no session."""
    image = {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}
    refused = [
        {"type": "transcription_session.update"},
        {"type": "conversation.item.retrieve", "item_id": "item_1"},
        {"type": "conversation.item.create", "item": image},
        {"type": "conversation.item.delete", "item_id": "item_1"},
        {"type": "response.cancel"},
        {"type": "input_audio_buffer.commit"},
    ]
    async with LoopbackProviders() as providers:
        url = f"{providers.realtime_url}?model=gpt-realtime"
        async with providers.http_session.get(url) as keyless:
            assert keyless.status == 401
        async with socket(providers) as connection:
            for number, event in enumerate(refused):
                await connection.send_json({**event, "event_id": f"mine_{number}"})
                answer = await connection.receive_json(timeout=5)
                assert (answer["type"], answer["error"]["event_id"]) == ("error", f"mine_{number}")
    assert providers.ledger.entries == []


async def test_one_response_at_a_time(socket, received):
    """A second request beside a running one is refused; the running one goes on."""
    async with LoopbackProviders() as providers, socket(providers) as connection:
        for _ in range(2):
            await connection.send_json({"type": "response.create"})
        refused = await received(connection, "error")
        await received(connection, "response.done")
        await providers.ledger.settled()
    assert refused["error"]["code"] == "conversation_already_has_active_response"
    assert [entry.outcome for entry in providers.ledger.entries] == ["completed"]
