// SPDX-License-Identifier: Apache-2.0
/*
 * Steers frames into AF_XDP sockets, and drops what the engine would refuse anyhow.
 *
 *   omni_underlay   data messages of the fabric go to the socket of their receive queue, or end
 *                   here when their session is to be checked and is not known; messages without
 *                   a session end here when they are to be checked and are no handshakes, or too
 *                   many; all other traffic of the host continues to the kernel, untouched
 *   omni_access     every frame goes to the socket of its receive queue, with room before it
 *                   for the headers that will carry it
 *
 *   what a socket finds in its buffer:
 *
 *       | ... | meta (16) | room (access only) | the frame as received |
 *                         ^ start of the descriptor
 *
 * Both choose the socket by the receive queue, as a socket bound to another queue would refuse
 * the frame silently. Each attached program has maps of its own.
 *
 * Headers are read from the linear part of a frame. Where a driver splits a frame before the end
 * of its headers, the underlay program lets it pass: the host still gets it.
 */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "message.h"
#include "omni_redirect.h"

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, OMNI_MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OMNI_MAX_LOCAL_ADDRS);
	__type(key, struct omni_addr);
	__type(value, __u8);
} local_addrs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct omni_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OMNI_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* Takes memory for the sessions there are, not for all that there can be. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OMNI_MAX_SESSIONS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be32);
	__type(value, struct omni_session_entry);
} sessions SEC(".maps");

/* Each peer's share of messages without a session, by where it is. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OMNI_MAX_ENDPOINTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct omni_endpoint);
	__type(value, struct omni_share);
} endpoints SEC(".maps");

/* The shares of everyone else, level by level. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OMNI_SHARES);
	__type(key, __u32);
	__type(value, struct omni_share);
} shares SEC(".maps");

/* Messages without a session, and what they are long where that is fixed. */
#define OMNI_INITIATION 1
#define OMNI_INITIATION_LEN 168
#define OMNI_RESPONSE 2
#define OMNI_RESPONSE_LEN 116
#define OMNI_COOKIE_REPLY 3
#define OMNI_COOKIE_REPLY_LEN 68
#define OMNI_REFLECT_PROBE 16
#define OMNI_REFLECT_ANSWER 17

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);

	if (value)
		*value += 1;
}

static __always_inline int drop(__u32 why)
{
	count(why);
	return XDP_DROP;
}

static __always_inline const struct omni_settings *current_settings(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&settings, &only);
}

static __always_inline bool has_socket(__u32 queue)
{
	return bpf_map_lookup_elem(&xsks, &queue) != NULL;
}

/* Whether this is a message of the fabric to us. */
static __always_inline bool is_for_us(struct xdp_md *ctx, const struct omni_settings *now,
				      struct destination *to)
{
	struct cursor frame = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };

	if (!read_destination(frame, to))
		return false;
	return now->port && to->port == now->port &&
	       bpf_map_lookup_elem(&local_addrs, &to->addr) != NULL;
}

/* Whether a message without a session has a type, and the length that belongs to it. */
static __always_inline bool is_handshake(const struct destination *to)
{
	switch (to->type) {
	case OMNI_INITIATION:
		return to->len == OMNI_INITIATION_LEN;
	case OMNI_RESPONSE:
		return to->len == OMNI_RESPONSE_LEN;
	case OMNI_COOKIE_REPLY:
		return to->len == OMNI_COOKIE_REPLY_LEN;
	case OMNI_REFLECT_PROBE:
	case OMNI_REFLECT_ANSWER:
		return true;
	default:
		return false;
	}
}

/*
 * Takes one message out of a share, if anything is left in it. Cores that do this at once may
 * take one too many, which does no harm.
 */
static __always_inline bool take_share(struct omni_share *share, __u64 now, __u64 cost, __u64 most)
{
	__u64 spent = share->spent_until;

	if (spent < now)
		spent = now;
	if (spent + cost > now + most)
		return false;
	share->spent_until = spent + cost;
	return true;
}

static __always_inline bool is_same(const struct omni_addr *a, const struct omni_addr *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] &&
	       a->word[2] == b->word[2] && a->word[3] == b->word[3];
}

/* Whether there is a share of data left that is not simply let through. */
static __always_inline bool has_share(struct omni_session_entry *session)
{
	return take_share(&session->elsewhere, bpf_ktime_get_boot_ns(), OMNI_ELSEWHERE_COST,
			  OMNI_ELSEWHERE_MOST);
}

/* Whether data of a session comes from where its peer is, or may come from elsewhere. */
static __always_inline bool may_come_from(struct omni_session_entry *session,
					  const struct omni_addr *from)
{
	const struct omni_addr nowhere = {};

	return is_same(&session->addr, from) || is_same(&session->addr, &nowhere) ||
	       has_share(session);
}

/* Shares for sources of one width: a part of the table. */
struct level {
	__u32 first;	/* place in the table */
	__u32 count;	/* a power of two */
	__u64 cost;
};

/* Spreads what differs in `x` over all bits (the finalizer of MurmurHash3, public domain). */
static __always_inline __u64 mix(__u64 x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccd;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53;
	return x ^ (x >> 33);
}

static __always_inline bool take_nth(__u32 nth, const struct level *level, __u64 now)
{
	__u32 place = level->first + (nth & (level->count - 1));
	struct omni_share *share = bpf_map_lookup_elem(&shares, &place);

	return share && take_share(share, now, level->cost, OMNI_SHARE_MOST);
}

/* Takes a message of the network `high`, `low` out of either of its two shares. */
static __always_inline bool take_of(__u64 secret, __u64 high, __u64 low, __u64 now,
				    const struct level *level)
{
	__u64 hash = mix(mix(mix(secret + level->first) ^ high) ^ low);

	return take_nth(hash, level, now) || take_nth(hash >> 32, level, now);
}

/* Takes a message out of any of the shares of where it comes from, the narrowest first. */
static __always_inline bool take_any(const struct omni_endpoint *from, __u64 secret, __u64 now)
{
	const struct level endpoint = { 0, OMNI_ENDPOINT_SHARES, OMNI_ENDPOINT_SHARE_COST };
	const struct level site = { endpoint.first + endpoint.count, OMNI_SITE_SHARES,
				    OMNI_SITE_COST };
	const struct level provider = { site.first + site.count, OMNI_PROVIDER_SHARES,
					OMNI_PROVIDER_COST };
	const struct level region = { provider.first + provider.count, OMNI_REGION_SHARES,
				      OMNI_REGION_COST };
	__u64 high = (__u64)bpf_ntohl(from->addr.word[0]) << 32 | bpf_ntohl(from->addr.word[1]);
	__u64 low = (__u64)bpf_ntohl(from->addr.word[2]) << 32 | bpf_ntohl(from->addr.word[3]);

	secret += mix(now >> OMNI_HASH_SHIFT);
	if (take_of(secret ^ from->port, high, low, now, &endpoint))
		return true;
	/* An IPv4 address is the last 32 bits of its mapped form. */
	if (!high && low >> 32 == 0xffff)
		return take_of(secret, high, low >> 8, now, &site) ||
		       take_of(secret, high, low >> 16, now, &provider) ||
		       take_of(secret, high, low >> 24, now, &region);
	return take_of(secret, high, 0, now, &site) ||
	       take_of(secret, high >> 16, 0, now, &provider) ||
	       take_of(secret, high >> 32, 0, now, &region);
}

/* What becomes of a message without a session. */
static __always_inline int admit(const struct destination *to, __u64 secret)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct omni_share *own;

	if (!is_handshake(to))
		return drop(OMNI_NOT_HANDSHAKE);
	own = bpf_map_lookup_elem(&endpoints, &to->from);
	if (own && take_share(own, now, OMNI_ENDPOINT_COST, OMNI_ENDPOINT_MOST))
		return XDP_PASS;
	return take_any(&to->from, secret, now) ? XDP_PASS : drop(OMNI_TOO_MANY);
}

/* Writes the metadata before the frame and hands it to the socket of its receive queue. */
static __always_inline int steer(struct xdp_md *ctx, __u16 room)
{
	__u32 queue = ctx->rx_queue_index;
	struct omni_meta *meta;

	if (bpf_xdp_adjust_meta(ctx, -OMNI_META_LEN))
		return drop(OMNI_NO_HEADROOM);
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return drop(OMNI_NO_HEADROOM);
	/*
	 * Ours must stand right before the frame: a driver's own metadata in between would be read
	 * in its place. The verifier understands the two comparisons, but not the one that the
	 * compiler would join them into.
	 */
	barrier_var(meta);
	if ((void *)(meta + 1) < (void *)(long)ctx->data)
		return drop(OMNI_NO_HEADROOM);
	meta->stamp_ns = bpf_ktime_get_boot_ns();
	meta->room = room;
	meta->flags = 0;
	meta->rx_queue = queue;
	/* The socket was there a moment ago; should it have closed since, this drops. */
	if (bpf_redirect_map(&xsks, queue, XDP_DROP) != XDP_REDIRECT)
		return drop(OMNI_NO_SOCKET);
	count(OMNI_STEERED);
	return XDP_REDIRECT;
}

OMNI_SECTION
int omni_underlay(struct xdp_md *ctx)
{
	const struct omni_settings *now = current_settings();
	struct omni_session_entry *session;
	struct destination to = {};

	if (!now || !is_for_us(ctx, now, &to))
		return XDP_PASS;
	if (!to.session_id)
		return now->flags & OMNI_CHECK_HANDSHAKES ? admit(&to, now->secret) : XDP_PASS;
	if (now->flags & OMNI_CHECK_SESSIONS) {
		session = bpf_map_lookup_elem(&sessions, &to.session_id);
		if (!session)
			return drop(OMNI_NO_SESSION);
		if (to.lane >= session->lanes)
			return drop(OMNI_NO_LANE);
		if (session->flags & OMNI_THROTTLED) {
			if (!has_share(session))
				return drop(OMNI_TOO_MUCH);
		} else if (!may_come_from(session, &to.from.addr)) {
			return drop(OMNI_ELSEWHERE);
		}
	}
	/* Without a socket the kernel gets the message, and the control thread counts it. */
	if (!has_socket(ctx->rx_queue_index))
		return XDP_PASS;
	return steer(ctx, 0);
}

OMNI_SECTION
int omni_access(struct xdp_md *ctx)
{
	const struct omni_settings *now = current_settings();
	__u16 room;

	if (!has_socket(ctx->rx_queue_index))
		return drop(OMNI_NO_SOCKET);
	if (!now)
		return drop(OMNI_NO_HEADROOM);
	room = now->room;
	if (room > OMNI_MAX_ROOM || bpf_xdp_adjust_head(ctx, -(int)room))
		return drop(OMNI_NO_HEADROOM);
	return steer(ctx, room);
}

/* No helper used here is reserved for programs under the GPL. */
char _license[] SEC("license") = "Apache-2.0";
