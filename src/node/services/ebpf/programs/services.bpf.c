/*
 * Services at the socket: where a process of the node or of one of its pods connects or sends to a Service, the destination
 * is replaced by an endpoint before there is any packet. No packet is translated afterwards, in neither direction.
 *
 * What is not translated here goes on untouched and meets the nftables rules, which know every Service as well. So each
 * "not mine" below is safe: a program never has to refuse what it does not understand.
 *
 * The agent changes the maps while programs run, without locks and without a gap:
 *   - frontends, slots and endpoints are arrays, changed in place by aligned 8-byte stores;
 *   - what is taken out of use is given to nobody else before every running program has ended (an RCU grace period);
 *   - an element of a hash map may be given to another key while it is read here. Hence the address in `struct frontend`,
 *     which tells whose it is, and the check of what clients and flows remember against `members`.
 *
 * The layouts are mirrored in schema.ts. Addresses and ports are in network byte order; IPv4 is ::ffff:a.b.c.d.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* SOCK_STREAM */
#define STREAM 1

#define COUNT_MASK 0xfffffULL
#define KIND(head) (((head) >> 20) & 0xf)
#define FIRST(head) ((__u32)((head) >> 32))
enum { KIND_ENDPOINTS = 0, KIND_REJECT = 1, KIND_PASS = 2 };

/* Services that one unconnected UDP socket talks to at a time. */
#define FLOWS 8

struct address {
	__u32 word[4];
};

struct target {
	struct address address;
	__u16 port;
	__u16 unused;
};

struct key4 {
	__u32 address;
	__u16 port;
	__u8 protocol;
	__u8 unused;
};

struct key6 {
	struct address address;
	__u16 port;
	__u8 protocol;
	__u8 unused;
};

struct frontend {
	/* Bits 0-19 the number of endpoints, 20-23 KIND, 32-63 the first slot. */
	__u64 head;
	struct address address;
	__u16 port;
	__u8 protocol;
	__u8 unused;
	/* Seconds for which a client stays with its endpoint; 0: no affinity. */
	__u32 affinity;
};

struct endpoint {
	struct target target;
	__u32 unused;
};

/* An endpoint of a frontend with affinity or of UDP. */
struct member {
	__u32 frontend;
	struct target target;
};

struct client {
	__u64 netns;
	struct target frontend;
	__u32 protocol;
};

struct choice {
	__u64 last_ns;
	struct target endpoint;
	__u32 unused;
};

/* What a connected socket believes to be connected to, and what it is connected to. */
struct peer {
	struct target frontend;
	struct target endpoint;
};

/* The endpoint of a flow is all zeros where the flow is left to the packet's path. */
struct flows {
	/* The next to be replaced when all are taken. */
	__u32 next;
	struct peer flow[FLOWS];
};

/* A connected UDP socket: the agent moves it when its endpoint goes. */
struct udp_socket {
	struct peer peer;
	/* Who connected it, as a first guess for who has it. */
	__u32 process;
};


struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct key4);
	__type(value, __u32);
} pw_services4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct key6);
	__type(value, __u32);
} pw_services6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct frontend);
} pw_frontends SEC(".maps");

/* The number of an endpoint. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} pw_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct endpoint);
} pw_endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct member);
	__type(value, __u32);
} pw_members SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct client);
	__type(value, struct choice);
} pw_clients SEC(".maps");

/*
 * What sockets remember is kept by their cookies. BPF has storage in the socket itself, but to make and free it costs 1.7 us
 * a socket, three times as much as all the rest.
 */

/* Connected TCP sockets, the latest ones where there are too many: for getpeername only. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct peer);
} pw_tcp_peers SEC(".maps");

/* Unconnected UDP sockets. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct flows);
} pw_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct udp_socket);
} pw_udp_sockets SEC(".maps");

/* Nothing but zeros, more of them than a program has stack for: what a socket's flows begin with. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flows);
} pw_no_flows SEC(".maps");

/* No program reads these. To write a map of maps waits until every program that runs has ended. */
struct grace_inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} pw_grace_inner SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct grace_inner);
} pw_grace SEC(".maps");

static __always_inline int is_mapped(const struct address *address)
{
	return !address->word[0] && !address->word[1] && address->word[2] == bpf_htonl(0xffff);
}

static __always_inline int same(const struct target *one, const struct target *other)
{
	return one->address.word[3] == other->address.word[3] && one->port == other->port &&
	       one->address.word[0] == other->address.word[0] && one->address.word[1] == other->address.word[1] &&
	       one->address.word[2] == other->address.word[2];
}

/* The number of the frontend, or -1. */
static __always_inline __s64 find_frontend(const struct target *to, __u8 protocol)
{
	__u32 *number;
	if (is_mapped(&to->address)) {
		struct key4 key = { .address = to->address.word[3], .port = to->port, .protocol = protocol };
		number = bpf_map_lookup_elem(&pw_services4, &key);
	} else {
		struct key6 key = { .address = to->address, .port = to->port, .protocol = protocol };
		number = bpf_map_lookup_elem(&pw_services6, &key);
	}
	return number ? *number : -1;
}

static __always_inline int is_of(const struct frontend *frontend, const struct target *to, __u8 protocol)
{
	return frontend->address.word[3] == to->address.word[3] && frontend->port == to->port &&
	       frontend->protocol == protocol && frontend->address.word[0] == to->address.word[0] &&
	       frontend->address.word[1] == to->address.word[1] && frontend->address.word[2] == to->address.word[2];
}

static __always_inline int is_member(__u32 number, const struct target *endpoint)
{
	struct member key = { .frontend = number, .target = *endpoint };
	return bpf_map_lookup_elem(&pw_members, &key) != NULL;
}

/* One of the frontend's endpoints at random. */
static __always_inline int pick(__u64 head, struct target *endpoint)
{
	__u32 count = head & COUNT_MASK;
	if (KIND(head) != KIND_ENDPOINTS || count == 0)
		return 0;
	__u32 slot = FIRST(head) + (count == 1 ? 0 : bpf_get_prandom_u32() % count);
	__u64 *number = bpf_map_lookup_elem(&pw_slots, &slot);
	if (!number)
		return 0;
	__u32 id = *(volatile __u64 *)number;
	struct endpoint *found = bpf_map_lookup_elem(&pw_endpoints, &id);
	if (!found)
		return 0;
	*endpoint = found->target;
	return 1;
}

/* The endpoint to which the client went last, if it is still one, else one at random, which is remembered. */
static __always_inline int pick_for_client(struct bpf_sock_addr *ctx, __u32 number, struct frontend *frontend,
					   __u64 head, const struct target *to, struct target *endpoint)
{
	struct client key = { .netns = bpf_get_netns_cookie(ctx), .frontend = *to, .protocol = frontend->protocol };
	__u64 now = bpf_ktime_get_ns();
	struct choice *known = bpf_map_lookup_elem(&pw_clients, &key);
	if (known) {
		struct target last = known->endpoint;
		if (now - known->last_ns < frontend->affinity * 1000000000ULL && is_member(number, &last)) {
			known->last_ns = now;
			*endpoint = last;
			return 1;
		}
	}
	if (!pick(head, endpoint))
		return 0;
	struct choice choice = { .last_ns = now, .endpoint = *endpoint };
	bpf_map_update_elem(&pw_clients, &key, &choice, BPF_ANY);
	return 1;
}

enum verdict { PASS, REJECT, TRANSLATE };

/* What becomes of a new connection, or of the first datagram of a flow. */
static __always_inline enum verdict choose(struct bpf_sock_addr *ctx, __u32 number, const struct target *to,
					   __u8 protocol, struct target *endpoint)
{
	struct frontend *frontend = bpf_map_lookup_elem(&pw_frontends, &number);
	if (!frontend || !is_of(frontend, to, protocol))
		return PASS;
	__u64 head = *(volatile __u64 *)&frontend->head;
	if (KIND(head) == KIND_REJECT)
		return REJECT;
	if (KIND(head) != KIND_ENDPOINTS)
		return PASS;
	int found = frontend->affinity ? pick_for_client(ctx, number, frontend, head, to, endpoint)
				       : pick(head, endpoint);
	return found ? TRANSLATE : PASS;
}

/* Returns 0 where that cannot be remembered which has to be. */
static __always_inline int remember_peer(struct bpf_sock_addr *ctx, const struct target *to,
					 const struct target *endpoint, __u8 protocol)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct udp_socket socket = { .peer = { .frontend = *to, .endpoint = *endpoint } };
	if (protocol != IPPROTO_UDP) {
		bpf_map_update_elem(&pw_tcp_peers, &cookie, &socket.peer, BPF_ANY);
		return 1;
	}
	struct udp_socket *known = bpf_map_lookup_elem(&pw_udp_sockets, &cookie);
	socket.process = known ? known->process : bpf_get_current_pid_tgid() >> 32;
	return !bpf_map_update_elem(&pw_udp_sockets, &cookie, &socket, BPF_ANY);
}

static __always_inline void forget_peer(struct bpf_sock_addr *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	bpf_map_delete_elem(&pw_udp_sockets, &cookie);
}

static __always_inline enum verdict connect(struct bpf_sock_addr *ctx, const struct target *to,
					    struct target *endpoint)
{
	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return PASS;
	__u8 protocol = ctx->protocol;
	__s64 number = find_frontend(to, protocol);
	enum verdict verdict = number < 0 ? PASS : choose(ctx, number, to, protocol, endpoint);
	if (verdict == TRANSLATE && !remember_peer(ctx, to, endpoint, protocol))
		verdict = PASS;
	if (verdict != TRANSLATE && protocol == IPPROTO_UDP)
		forget_peer(ctx);
	return verdict;
}

/* The place of the flow to a frontend, or of the flow that gives its place to it. */
static __always_inline __u32 place_of(struct flows *flows, const struct target *to)
{
	for (__u32 i = 0; i < FLOWS; i++)
		if (same(&flows->flow[i].frontend, to))
			return i;
	__u32 place = flows->next % FLOWS;
	flows->next = place + 1;
	return place;
}

static __always_inline struct flows *make_flows(__u64 cookie)
{
	__u32 zero = 0;
	struct flows *none = bpf_map_lookup_elem(&pw_no_flows, &zero);
	if (!none || bpf_map_update_elem(&pw_flows, &cookie, none, BPF_ANY))
		return NULL;
	return bpf_map_lookup_elem(&pw_flows, &cookie);
}

/*
 * Whether another flow of the socket leads to the endpoint. Nobody could tell then which of the two an answer belongs to; the
 * later flow is left to the packet's path, where conntrack gives it a source port of its own.
 */
static __always_inline int is_taken(struct flows *flows, __u32 place, const struct target *endpoint)
{
	for (__u32 i = 0; i < FLOWS; i++)
		if (i != place && same(&flows->flow[i].endpoint, endpoint))
			return 1;
	return 0;
}

/* A datagram of an unconnected socket: the endpoint of its flow, or a new one. The socket is locked meanwhile. */
static __always_inline enum verdict send(struct bpf_sock_addr *ctx, const struct target *to, struct target *endpoint)
{
	__s64 number = find_frontend(to, IPPROTO_UDP);
	if (number < 0)
		return PASS;
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct flows *flows = bpf_map_lookup_elem(&pw_flows, &cookie);
	if (!flows)
		flows = make_flows(cookie);
	if (!flows)
		return PASS;
	__u32 place = place_of(flows, to);
	if (place >= FLOWS)
		return PASS;
	struct peer *flow = &flows->flow[place];
	*endpoint = flow->endpoint;
	if (same(&flow->frontend, to)) {
		if (!endpoint->port)
			return PASS;
		if (is_member(number, endpoint))
			return TRANSLATE;
	}
	enum verdict verdict = choose(ctx, number, to, IPPROTO_UDP, endpoint);
	if (verdict != TRANSLATE)
		return verdict;
	flow->frontend = *to;
	if (is_taken(flows, place, endpoint)) {
		__builtin_memset(&flow->endpoint, 0, sizeof flow->endpoint);
		return PASS;
	}
	flow->endpoint = *endpoint;
	return TRANSLATE;
}

static __always_inline int restore(const struct peer *peer, const struct target *from, struct target *frontend)
{
	if (!same(&peer->endpoint, from))
		return 0;
	*frontend = peer->frontend;
	return 1;
}

/* The frontend behind which the process believes the sender of a datagram to be. */
static __always_inline int find_sender(struct bpf_sock_addr *ctx, const struct target *from, struct target *frontend)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct udp_socket *connected = bpf_map_lookup_elem(&pw_udp_sockets, &cookie);
	if (connected && restore(&connected->peer, from, frontend))
		return 1;
	struct flows *flows = bpf_map_lookup_elem(&pw_flows, &cookie);
	if (!flows)
		return 0;
	for (__u32 i = 0; i < FLOWS; i++)
		if (restore(&flows->flow[i], from, frontend))
			return 1;
	return 0;
}

/* The frontend to which the process believes its socket to be connected. */
static __always_inline int find_peer(struct bpf_sock_addr *ctx, const struct target *from, struct target *frontend)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	if (ctx->protocol == IPPROTO_UDP) {
		struct udp_socket *connected = bpf_map_lookup_elem(&pw_udp_sockets, &cookie);
		return connected && restore(&connected->peer, from, frontend);
	}
	struct peer *peer = bpf_map_lookup_elem(&pw_tcp_peers, &cookie);
	return peer && restore(peer, from, frontend);
}

static __always_inline void read4(struct bpf_sock_addr *ctx, struct target *target)
{
	__builtin_memset(target, 0, sizeof *target);
	target->address.word[2] = bpf_htonl(0xffff);
	target->address.word[3] = ctx->user_ip4;
	target->port = ctx->user_port;
}

static __always_inline void write4(struct bpf_sock_addr *ctx, const struct target *target)
{
	ctx->user_ip4 = target->address.word[3];
	ctx->user_port = target->port;
}

static __always_inline void read6(struct bpf_sock_addr *ctx, struct target *target)
{
	__builtin_memset(target, 0, sizeof *target);
	target->address.word[0] = ctx->user_ip6[0];
	target->address.word[1] = ctx->user_ip6[1];
	target->address.word[2] = ctx->user_ip6[2];
	target->address.word[3] = ctx->user_ip6[3];
	target->port = ctx->user_port;
}

static __always_inline void write6(struct bpf_sock_addr *ctx, const struct target *target)
{
	ctx->user_ip6[0] = target->address.word[0];
	ctx->user_ip6[1] = target->address.word[1];
	ctx->user_ip6[2] = target->address.word[2];
	ctx->user_ip6[3] = target->address.word[3];
	ctx->user_port = target->port;
}

#define OUTWARD(name, section, family, action)                                                                         \
	SEC(section) int name(struct bpf_sock_addr *ctx)                                                               \
	{                                                                                                              \
		struct target to, endpoint;                                                                            \
		read##family(ctx, &to);                                                                                \
		enum verdict verdict = action(ctx, &to, &endpoint);                                                    \
		if (verdict == TRANSLATE)                                                                              \
			write##family(ctx, &endpoint);                                                                 \
		if (verdict != REJECT)                                                                                 \
			return 1;                                                                                      \
		bpf_set_retval(-ECONNREFUSED);                                                                         \
		return 0;                                                                                              \
	}

#define INWARD(name, section, family, find)                                                                               \
	SEC(section) int name(struct bpf_sock_addr *ctx)                                                               \
	{                                                                                                              \
		struct target from, frontend;                                                                          \
		read##family(ctx, &from);                                                                              \
		if (find(ctx, &from, &frontend))                                                                \
			write##family(ctx, &frontend);                                                                 \
		return 1;                                                                                              \
	}

OUTWARD(pw_connect4, "cgroup/connect4", 4, connect)
OUTWARD(pw_connect6, "cgroup/connect6", 6, connect)
OUTWARD(pw_sendmsg4, "cgroup/sendmsg4", 4, send)
OUTWARD(pw_sendmsg6, "cgroup/sendmsg6", 6, send)
INWARD(pw_recvmsg4, "cgroup/recvmsg4", 4, find_sender)
INWARD(pw_recvmsg6, "cgroup/recvmsg6", 6, find_sender)
INWARD(pw_getpeer4, "cgroup/getpeername4", 4, find_peer)
INWARD(pw_getpeer6, "cgroup/getpeername6", 6, find_peer)

SEC("cgroup/sock_release") int pw_release(struct bpf_sock *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	if (ctx->type == STREAM) {
		/* An LRU map that is full costs twice as much to insert into: it would be full all the time. */
		bpf_map_delete_elem(&pw_tcp_peers, &cookie);
	} else {
		bpf_map_delete_elem(&pw_udp_sockets, &cookie);
		bpf_map_delete_elem(&pw_flows, &cookie);
	}
	return 1;
}

/* No helper that is used here asks for the GPL. */
char LICENSE[] SEC("license") = "Apache-2.0";
