// SPDX-License-Identifier: Apache-2.0
/*
 * What the compiler makes of the headers, for the test in src/layout.rs. It is never run: the
 * test reads the assembly, where each NUMBER stands as a line `.ascii "= NAME VALUE"`.
 */
#include <stddef.h>

#include "omni_handover.h"
#include "omni_redirect.h"

#define NUMBER(name, value) asm volatile("\n.ascii \"= " name " %0\"" :: "i"(value))
#define VALUE(name) NUMBER(#name, name)
#define STRUCT(type) NUMBER(#type, sizeof(struct type))
#define FIELD(type, field)                                            \
	do {                                                          \
		NUMBER(#type "." #field, offsetof(struct type, field)); \
		NUMBER(#type "." #field ".len", sizeof(((struct type *)0)->field)); \
	} while (0)

void layout(void)
{
	VALUE(OMNI_MAX_QUEUES);
	VALUE(OMNI_MAX_LOCAL_ADDRS);
	VALUE(OMNI_MAX_SESSIONS);
	VALUE(OMNI_MAX_ROOM);
	VALUE(OMNI_META_LEN);
	VALUE(OMNI_CHECK_SESSIONS);
	VALUE(OMNI_CHECK_HANDSHAKES);
	VALUE(OMNI_MAX_ENDPOINTS);
	VALUE(OMNI_THROTTLED);

	VALUE(OMNI_STEERED);
	VALUE(OMNI_NO_SOCKET);
	VALUE(OMNI_NO_HEADROOM);
	VALUE(OMNI_NO_SESSION);
	VALUE(OMNI_NO_LANE);
	VALUE(OMNI_NOT_HANDSHAKE);
	VALUE(OMNI_TOO_MANY);
	VALUE(OMNI_ELSEWHERE);
	VALUE(OMNI_TOO_MUCH);
	VALUE(OMNI_COUNTERS);

	VALUE(OMNI_SHARED);
	VALUE(OMNI_WHOLE);
	VALUE(OMNI_TO_OTHER);
	VALUE(OMNI_TO_WIRE);
	VALUE(OMNI_HANDED_DATA);
	VALUE(OMNI_HANDED_HANDSHAKES);
	VALUE(OMNI_HANDED_REST);
	VALUE(OMNI_HANDED_BACK);
	VALUE(OMNI_NO_DEVICE);
	VALUE(OMNI_HANDOVER_COUNTERS);

	STRUCT(omni_settings);
	FIELD(omni_settings, port);
	FIELD(omni_settings, room);
	FIELD(omni_settings, flags);
	FIELD(omni_settings, reserved);
	FIELD(omni_settings, secret);

	STRUCT(omni_addr);
	FIELD(omni_addr, word);

	STRUCT(omni_session_entry);
	FIELD(omni_session_entry, addr);
	FIELD(omni_session_entry, elsewhere);
	FIELD(omni_session_entry, lanes);
	FIELD(omni_session_entry, flags);
	FIELD(omni_session_entry, reserved);

	STRUCT(omni_endpoint);
	FIELD(omni_endpoint, addr);
	FIELD(omni_endpoint, port);
	FIELD(omni_endpoint, reserved);

	STRUCT(omni_share);
	FIELD(omni_share, spent_until);

	STRUCT(omni_meta);
	FIELD(omni_meta, stamp_ns);
	FIELD(omni_meta, room);
	FIELD(omni_meta, flags);
	FIELD(omni_meta, rx_queue);
}
