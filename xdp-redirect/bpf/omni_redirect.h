/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the steering programs and their loader agree on: limits, layouts, counters.
 *
 * src/layout.rs repeats these values for Rust. bpf/layout.c lists them for a test there, which
 * compares the two: a change here that is not made there does not pass.
 */
#ifndef OMNI_REDIRECT_H
#define OMNI_REDIRECT_H

#include <linux/types.h>

/* Receive queues that one program can serve: the size of the socket map. */
#define OMNI_MAX_QUEUES 64

/* Addresses of the underlay interface: the size of the address map. */
#define OMNI_MAX_LOCAL_ADDRS 256

/* Live sessions that the underlay program can know: the size of the session map. */
#define OMNI_MAX_SESSIONS 65536

/*
 * Octets that may be made free before a frame. The kernel leaves 256 (XDP_PACKET_HEADROOM),
 * of which its own frame record takes up to 64 and the metadata below 16.
 */
#define OMNI_MAX_ROOM 128

/* Octets of metadata before a frame: a multiple of four, at most 32 (bpf_xdp_adjust_meta). */
#define OMNI_META_LEN 16

/* A flag of the settings: data is dropped that belongs to no session in the session map. */
#define OMNI_CHECK_SESSIONS 1

/* A flag of the settings: messages without a session are looked at before the kernel gets them. */
#define OMNI_CHECK_HANDSHAKES 2

/*
 * Peers whose endpoint is known: the size of their map.
 *
 * A message without a session costs the control thread microseconds, and the host a walk through
 * its network stack. So there are shares of them. A known endpoint has one of its own, which
 * nobody else can use up unless they forge its address: 8 messages a second, 16 at once.
 */
#define OMNI_MAX_ENDPOINTS 16384
#define OMNI_ENDPOINT_COST 125000000
#define OMNI_ENDPOINT_MOST 2000000000

/*
 * Everyone else has the shares of where they come from: their endpoint, and the networks around
 * it, each wider than the one before. At every level a keyed hash chooses two shares of a table,
 * and a message passes that finds something left in any of them. A flood of whatever sources
 * empties the shares of the networks that it claims to come from, and leaves those of others;
 * only one that claims to come from everywhere takes all. Its messages then are 256 a second, 64
 * by each level. Costs and savings are nanoseconds.
 *
 *   level       IPv4                IPv6                shares  a second  at once (of one share)
 *   ENDPOINT    address and port    address and port       128       0.5        1
 *   SITE        24 bits             64 bits                 64         1        2
 *   PROVIDER    16 bits             48 bits                 32         2        4
 *   REGION       8 bits             32 bits                 16         4        8
 */
#define OMNI_ENDPOINT_SHARES 128
#define OMNI_ENDPOINT_SHARE_COST 2000000000
#define OMNI_SITE_SHARES 64
#define OMNI_SITE_COST 1000000000
#define OMNI_PROVIDER_SHARES 32
#define OMNI_PROVIDER_COST 500000000
#define OMNI_REGION_SHARES 16
#define OMNI_REGION_COST 250000000
/* What any of them can save. */
#define OMNI_SHARE_MOST 2000000000
#define OMNI_SHARES \
	(OMNI_ENDPOINT_SHARES + OMNI_SITE_SHARES + OMNI_PROVIDER_SHARES + OMNI_REGION_SHARES)

/*
 * The hash changes every 2^32 ns, 4.3 s: who shares with a flood by chance does not when it tries
 * again, 5 s later.
 */
#define OMNI_HASH_SHIFT 32

/* What user space can change while the programs run. */
struct omni_settings {
	__be16 port;	/* UDP port of the fabric, as on the wire; 0 steers nothing */
	__u16 room;	/* octets to make free before each frame from an access port */
	__u16 flags;	/* OMNI_CHECK_SESSIONS, OMNI_CHECK_HANDSHAKES, both or none */
	__u16 reserved;	/* zero */
	__u64 secret;	/* key of the hash that chooses shares */
};

/* An address of this host; IPv4 in its mapped form, ::ffff:a.b.c.d (RFC 4291 s.2.5.5.2). */
struct omni_addr {
	__be32 word[4];
};

/* A share of messages. */
struct omni_share {
	__u64 spent_until;	/* nanoseconds of CLOCK_BOOTTIME */
};

/*
 * What is known of a live session. The key is its number, as on the wire.
 *
 * Data comes from where the peer is. A peer that moves speaks from elsewhere until the engine has
 * followed it, after its first message; so what comes from elsewhere has a share. A flood that
 * forges data from any sources ends here, beyond that.
 */
struct omni_session_entry {
	struct omni_addr addr;	/* the peer's address; all zeros while that is not known */
	struct omni_share elsewhere;	/* of data from other addresses, or of all */
	__u16 lanes;	/* lanes that the peer announced: it uses 0 to one less than this */
	__u16 flags;	/* OMNI_THROTTLED or none */
	__u32 reserved;	/* zero */
};

/*
 * A flag of a session: wherever its data comes from, there is a share of it. Most of what the peer
 * sent was refused after it had been opened, and this is cheaper.
 */
#define OMNI_THROTTLED 1

/* Nanoseconds that a message of these takes, 1000 a second; and what is saved: 2000 at once. */
#define OMNI_ELSEWHERE_COST 1000000
#define OMNI_ELSEWHERE_MOST 2000000000

/* Where a peer is: the key of the map of endpoints. */
struct omni_endpoint {
	struct omni_addr addr;
	__be16 port;
	__u16 reserved;	/* zero */
};

/* Stands right before the first octet of every frame handed to a socket; host byte order. */
struct omni_meta {
	__u64 stamp_ns;	/* when the driver handed the frame over, CLOCK_BOOTTIME */
	__u16 room;	/* octets made free before the frame, counted in the frame's length */
	__u16 flags;	/* none defined: zero */
	__u32 rx_queue;	/* receive queue that the frame came in on */
};

_Static_assert(sizeof(struct omni_settings) == 16, "settings are 16 octets");
_Static_assert(sizeof(struct omni_addr) == 16, "an address is 16 octets");
_Static_assert(sizeof(struct omni_session_entry) == 32, "a session's entry is 32 octets");
_Static_assert(sizeof(struct omni_endpoint) == 20, "an endpoint is 20 octets");
_Static_assert(sizeof(struct omni_share) == 8, "a share is 8 octets");
_Static_assert(sizeof(struct omni_meta) == OMNI_META_LEN, "metadata is 16 octets");

/* Places in the counter map. */
enum omni_counter {
	OMNI_STEERED = 0,	/* frames handed to a socket */
	OMNI_NO_SOCKET = 1,	/* frames dropped: no socket serves their receive queue */
	OMNI_NO_HEADROOM = 2,	/* frames dropped: no room for headers or metadata */
	OMNI_NO_SESSION = 3,	/* frames dropped: data of a session that is not known */
	OMNI_NO_LANE = 4,	/* frames dropped: data on a lane that the peer did not announce */
	OMNI_NOT_HANDSHAKE = 5,	/* messages dropped: no session, and no handshake */
	OMNI_TOO_MANY = 6,	/* messages dropped: more without a session than may pass */
	OMNI_ELSEWHERE = 7,	/* frames dropped: too much data not from the peer's address */
	OMNI_TOO_MUCH = 8,	/* frames dropped: more data than a throttled peer may send */
	OMNI_COUNTERS = 9,
};

#endif /* OMNI_REDIRECT_H */
