// SPDX-License-Identifier: Apache-2.0
/*
 * Steers frames into AF_XDP sockets, and nothing more.
 *
 *   omni_underlay   data messages of the fabric go to the socket of their receive queue; all
 *                   other traffic of the host continues to the kernel, untouched
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
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "omni_redirect.h"

/* Kernels before 5.18 refuse programs that take frames of several buffers: for them the same
 * source is built a second time, without. */
#ifdef OMNI_LINEAR_ONLY
#define OMNI_SECTION SEC("xdp")
#else
#define OMNI_SECTION SEC("xdp.frags")
#endif

#define VLAN_TAG_LEN 4
#define IPV4_MIN_WORDS 5
#define IPV4_FRAGMENT_BITS 0x3fff /* more-fragments and the offset (RFC 791 s.3.1) */

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

/* The part of a frame that is not read yet. */
struct cursor {
	void *at;
	void *end;
};

/* A UDP header and the first field of the message behind it. */
struct datagram {
	struct udphdr udp;
	__be32 session_id;
};

/* Where a frame is going: what the underlay program decides by. */
struct destination {
	struct omni_addr addr;
	__be16 port;
	__be32 session_id;
};

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

/*
 * Points `taken` at the next `len` octets; false when the linear part of the frame ends before.
 * A null pointer would say the same, but comparing a packet's pointer with null takes
 * CAP_PERFMON, which the engine has no other need for.
 */
static __always_inline bool take(struct cursor *rest, __u32 len, void **taken)
{
	if (rest->at + len > rest->end)
		return false;
	*taken = rest->at;
	rest->at += len;
	return true;
}

/* Reads past the Ethernet header and at most one VLAN tag; the EtherType of what follows, or 0. */
static __always_inline __be16 take_ethernet(struct cursor *rest)
{
	struct ethhdr *eth;
	__be16 *tag;

	if (!take(rest, sizeof(*eth), (void **)&eth))
		return 0;
	if (eth->h_proto != bpf_htons(ETH_P_8021Q) && eth->h_proto != bpf_htons(ETH_P_8021AD))
		return eth->h_proto;
	if (!take(rest, VLAN_TAG_LEN, (void **)&tag))
		return 0;
	return tag[1];
}

/* Reads past one word of options, when the header has so many words. */
static __always_inline bool take_word(struct cursor *rest, __u32 word, __u32 header_words)
{
	void *option;

	if (word > header_words)
		return true;
	if (!take(rest, 4, &option))
		return false;
	/* Else the compiler joins all words into one step of a variable length. */
	barrier_var(rest->at);
	return true;
}

/*
 * Reads past the options of an IPv4 header. Word by word and written out, as without CAP_PERFMON
 * the verifier takes no packet pointer moved by a variable, and follows a loop here too far.
 */
static __always_inline bool take_ipv4_options(struct cursor *rest, __u32 words)
{
	return take_word(rest, 6, words) && take_word(rest, 7, words) &&
	       take_word(rest, 8, words) && take_word(rest, 9, words) &&
	       take_word(rest, 10, words) && take_word(rest, 11, words) &&
	       take_word(rest, 12, words) && take_word(rest, 13, words) &&
	       take_word(rest, 14, words) && take_word(rest, 15, words);
}

/* Reads past an IPv4 header; the octets it announces for UDP, or 0 when this is none of ours. */
static __always_inline __u32 take_ipv4(struct cursor *rest, struct destination *to)
{
	__u32 header_len, total_len;
	struct iphdr *ip;

	if (!take(rest, sizeof(*ip), (void **)&ip) || ip->version != 4 ||
	    ip->ihl < IPV4_MIN_WORDS)
		return 0;
	if (ip->protocol != IPPROTO_UDP || (ip->frag_off & bpf_htons(IPV4_FRAGMENT_BITS)))
		return 0;
	header_len = ip->ihl * 4;
	total_len = bpf_ntohs(ip->tot_len);
	if (total_len < header_len || !take_ipv4_options(rest, ip->ihl))
		return 0;
	to->addr.word[2] = bpf_htonl(0xffff);
	to->addr.word[3] = ip->daddr;
	return total_len - header_len;
}

/* As take_ipv4. UDP must follow at once: a frame with extension headers is not for us. */
static __always_inline __u32 take_ipv6(struct cursor *rest, struct destination *to)
{
	struct ipv6hdr *ip;

	if (!take(rest, sizeof(*ip), (void **)&ip) || ip->version != 6)
		return 0;
	if (ip->nexthdr != IPPROTO_UDP)
		return 0;
	__builtin_memcpy(&to->addr, &ip->daddr, sizeof(to->addr));
	/* A mapped address on the wire is nobody's, and must not match our IPv4 address. */
	if (!to->addr.word[0] && !to->addr.word[1] && to->addr.word[2] == bpf_htonl(0xffff))
		return 0;
	return bpf_ntohs(ip->payload_len);
}

/*
 * Whether this is a well-formed UDP datagram that holds a session's number, and to whom it goes.
 * Lengths come from the headers, not from the frame: what pads a short frame is not a message.
 */
static __always_inline bool read_destination(struct cursor rest, struct destination *to)
{
	struct datagram *datagram;
	__u32 granted, udp_len;

	switch (take_ethernet(&rest)) {
	case bpf_htons(ETH_P_IP):
		granted = take_ipv4(&rest, to);
		break;
	case bpf_htons(ETH_P_IPV6):
		granted = take_ipv6(&rest, to);
		break;
	default:
		return false;
	}
	if (!granted || !take(&rest, sizeof(*datagram), (void **)&datagram))
		return false;
	udp_len = bpf_ntohs(datagram->udp.len);
	to->port = datagram->udp.dest;
	to->session_id = datagram->session_id;
	return udp_len >= sizeof(*datagram) && udp_len <= granted;
}

/* Whether the engine's sockets are to have this frame, rather than the kernel. */
static __always_inline bool is_data_for_us(struct xdp_md *ctx)
{
	struct cursor frame = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };
	const struct omni_settings *now = current_settings();
	struct destination to = {};

	if (!now || !read_destination(frame, &to))
		return false;
	return now->port && to.port == now->port && to.session_id &&
	       bpf_map_lookup_elem(&local_addrs, &to.addr) != NULL;
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
	meta->stamp_ns = bpf_ktime_get_ns();
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
	/* Without a socket the kernel gets the message, and the control thread counts it. */
	if (!is_data_for_us(ctx) || !has_socket(ctx->rx_queue_index))
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
