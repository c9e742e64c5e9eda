/*
 * Slow and hostile clients, as many as wished, that cost little themselves: every session does one
 * small step per pace, and nothing between.
 *
 *   hostile [-s SESSIONS] [--kind KIND] [--pace-ms N] [--from ADDRESS] [--addresses N]
 *           [--seconds-max N] [-t PATH] ADDRESS:PORT
 *
 *   mute       connects and says nothing
 *   drip       one octet per step, of harmless commands
 *   deaf       commands that are answered, and never reads an answer
 *   line       a command line that does not end
 *   bdat       a content in chunks of one octet, never the last one
 *   noop       NOOPs without end, thirty per step, until it is thrown out
 *   handshake  STARTTLS and half a handshake: of two sessions one sends half a ClientHello, one a
 *              whole one and no more
 *   auth       AUTH with garbage, and garbage for the challenge
 *
 * Without --kind the sessions are of all kinds in turn. One whose connection is closed connects
 * again at its next step. Runs until standard input ends (or --seconds-max); then one line of JSON
 * says per kind what was done and how many lines of replies were positive and negative. Addresses
 * of loopback only.
 */

#define _GNU_SOURCE
#include <getopt.h>
#include <signal.h>

#include "link.h"

enum {
    SESSIONS_MAX = 20000, EVENTS_MAX = 256, TICK_MS = 10, OUTPUT_OCTETS = 1024, HELLO_OCTETS = 4096,
    NOOPS = 30, RECIPIENTS = 5, LINE_OCTETS = 512, DEAF_BUFFER_OCTETS = 2048, HANDSHAKE_STEPS = 15,
};
enum kind { MUTE, DRIP, DEAF, LINE, BDAT, NOOP, HANDSHAKE, AUTH, KINDS };
static const char *const kind_names[KINDS] = {
    "mute", "drip", "deaf", "line", "bdat", "noop", "handshake", "auth",
};

struct session {
    struct link link;
    enum kind kind;
    int index;
    int steps;        /* since it connected */
    char first;       /* octet that the last reply began with */
    int is_at_start;  /* the next octet read begins a reply */
};

struct tally {
    long sessions, steps, connections, failed, closed, sent, received, positive, negative, blocked;
};

static struct tally tallies[KINDS];
static struct session *sessions;
static struct sockaddr_in target;
static struct in_addr origin;
static const char *path = "recipient@sink.test";
static char hello[HELLO_OCTETS];
static size_t hello_count;
static int epoll;
static long origins = 1, next_origin;

static void close_session(struct session *session)
{
    if (session->link.fd >= 0)
        link_close(&session->link);
}

static void put(struct session *session, const char *octets, size_t count)
{
    struct tally *tally = &tallies[session->kind];
    long sent = link_write(&session->link, octets, count);
    if (sent == LINK_FAILED) {
        tally->closed++;
        close_session(session);
    } else if (sent == LINK_AGAIN) {
        tally->blocked++;
    } else {
        tally->sent += sent;
    }
}

static void say(struct session *session, const char *text)
{
    put(session, text, strlen(text));
}

static void repeat(struct session *session, const char *text, int times)
{
    char octets[OUTPUT_OCTETS];
    size_t count = 0, size = strlen(text);
    while (times-- && count + size <= sizeof octets) {
        memcpy(octets + count, text, size);
        count += size;
    }
    put(session, octets, count);
}

static void open_session(struct session *session)
{
    struct tally *tally = &tallies[session->kind];
    struct in_addr from = origin;
    if (from.s_addr)
        from.s_addr = htonl(ntohl(from.s_addr) + (uint32_t)(next_origin++ % origins));
    session->steps = 0;
    session->first = 0;
    session->is_at_start = 1;
    session->link.fd = link_connect(&target, from.s_addr ? &from : NULL);
    if (session->link.fd < 0) {
        tally->failed++;
        return;
    }
    tally->connections++;
    if (session->kind == DEAF) {
        int octets = DEAF_BUFFER_OCTETS;
        setsockopt(session->link.fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
    }
    link_watch(epoll, &session->link, session);
}

static void drip(struct session *session)
{
    static const char opening[] = "EHLO drip.test\r\n";
    static const char again[] = "MAIL FROM:<sender@drip.test>\r\nRSET\r\n";
    int position = session->steps - 1, length = (int)strlen(opening);
    put(session, position < length ? opening + position
                                   : again + (position - length) % (int)strlen(again), 1);
}

/* After the opening, which two steps say: MAIL and RCPT with the answer to EHLO read or not. */
static void envelope(struct session *session)
{
    char flight[OUTPUT_OCTETS];
    snprintf(flight, sizeof flight, "MAIL FROM:<sender@hostile.test>\r\nRCPT TO:<%s>\r\n", path);
    say(session, flight);
}

static void handshake(struct session *session)
{
    if (session->steps == 2)
        say(session, "STARTTLS\r\n");
    else if (session->steps == 3 && session->first == '2')
        put(session, hello, session->index / KINDS % 2 ? hello_count : hello_count / 2);
    else if (session->steps == HANDSHAKE_STEPS)
        close_session(session);
}

static void guess(struct session *session)
{
    static const char *const garbage[] = {
        "AUTH PLAIN AGFkbWluAHNlY3JldA==\r\n", "AUTH PLAIN ====\r\n", "AUTH LOGIN\r\n",
        "AUTH CRAM-MD5 \377\376\r\n",          "AUTH\r\n",            "AUTH NOSUCH eA==\r\n",
    };
    static const int count = sizeof garbage / sizeof *garbage;
    say(session, session->first == '3' ? "!!! not base64 !!!\r\n"
                                       : garbage[session->steps % count]);
}

/* What a session that greeted does from its second step on. */
static void attack(struct session *session)
{
    char text[OUTPUT_OCTETS];
    switch (session->kind) {
    case DEAF:
        snprintf(text, sizeof text, "RCPT TO:<%s>\r\n", path);
        if (session->steps == 2)
            envelope(session);
        else
            repeat(session, text, RECIPIENTS);
        break;
    case BDAT:
        if (session->steps == 2)
            envelope(session);
        else
            say(session, "BDAT 1\r\nx");
        break;
    case NOOP: repeat(session, "NOOP\r\n", NOOPS); break;
    case HANDSHAKE: handshake(session); break;
    default: guess(session);
    }
}

static void step(struct session *session)
{
    tallies[session->kind].steps++;
    if (session->link.fd < 0) {
        open_session(session);
        return;
    }
    session->steps++;
    if (session->kind == DRIP)
        drip(session);
    else if (session->kind == LINE)
        repeat(session, "x", LINE_OCTETS);
    else if (session->kind != MUTE && session->steps == 1)
        say(session, "EHLO hostile.test\r\n");
    else if (session->kind != MUTE)
        attack(session);
}

/* Count what begins a reply, and forget the rest. */
static void take(struct session *session, const char *octets, long count)
{
    struct tally *tally = &tallies[session->kind];
    tally->received += count;
    if (session->kind == HANDSHAKE && session->steps > 2)
        return; /* not text any more */
    for (long index = 0; index < count; index++) {
        if (session->is_at_start) {
            session->first = octets[index];
            tally->positive += session->first == '2' || session->first == '3';
            tally->negative += session->first == '4' || session->first == '5';
        }
        session->is_at_start = octets[index] == '\n';
    }
}

static void wake(struct session *session, uint32_t events)
{
    char octets[4096];
    if (session->link.fd < 0)
        return;
    if (session->kind == DEAF) {
        if (events & (EPOLLHUP | EPOLLERR)) {
            tallies[DEAF].closed++;
            close_session(session);
        }
        return;
    }
    for (;;) {
        long got = link_read(&session->link, octets, sizeof octets);
        if (got == LINK_AGAIN)
            return;
        if (got <= 0) {
            tallies[session->kind].closed++;
            close_session(session);
            return;
        }
        take(session, octets, got);
    }
}

/* A ClientHello as OpenSSL says it, once for all sessions: making one costs time. */
static void make_hello(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = context ? SSL_new(context) : NULL;
    BIO *from_peer = BIO_new(BIO_s_mem()), *to_peer = BIO_new(BIO_s_mem());
    if (!ssl || !from_peer || !to_peer)
        stop("SSL_new");
    SSL_set_bio(ssl, from_peer, to_peer);
    SSL_set_connect_state(ssl);
    SSL_do_handshake(ssl);
    int got = BIO_read(to_peer, hello, sizeof hello);
    if (got <= 0)
        stop("no ClientHello");
    hello_count = (size_t)got;
    SSL_free(ssl);
    SSL_CTX_free(context);
}

static void report(double seconds)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"seconds\": %.3f, \"cpu_s\": %.3f, \"kinds\": {", seconds, cpu_s);
    const char *comma = "";
    for (int kind = 0; kind < KINDS; kind++) {
        const struct tally *one = &tallies[kind];
        if (!one->sessions)
            continue;
        printf("%s\"%s\": {\"sessions\": %ld, \"steps\": %ld, \"connections\": %ld, "
               "\"failed\": %ld, \"closed\": %ld, \"sent\": %ld, \"received\": %ld, "
               "\"positive\": %ld, \"negative\": %ld, \"blocked\": %ld}",
               comma, kind_names[kind], one->sessions, one->steps, one->connections, one->failed,
               one->closed, one->sent, one->received, one->positive, one->negative, one->blocked);
        comma = ", ";
    }
    printf("}}\n");
}

struct order {
    long sessions, pace_ms, seconds_max;
    int kind; /* KINDS: all in turn */
};

static int kind_number(const char *text)
{
    for (int kind = 0; kind < KINDS; kind++)
        if (!strcmp(text, kind_names[kind]))
            return kind;
    refuse("hostile", "--kind: mute drip deaf line bdat noop handshake auth");
    return KINDS;
}

static struct order read_order(int argc, char **argv)
{
    static const struct option options[] = {
        {"kind", required_argument, NULL, 'k'},        {"pace-ms", required_argument, NULL, 'p'},
        {"from", required_argument, NULL, 'o'},        {"addresses", required_argument, NULL, 'a'},
        {"seconds-max", required_argument, NULL, 'S'}, {NULL, 0, NULL, 0},
    };
    struct order order = {.sessions = 1000, .pace_ms = 1000, .seconds_max = 600, .kind = KINDS};
    int letter;
    while ((letter = getopt_long(argc, argv, "s:t:", options, NULL)) != -1) {
        switch (letter) {
        case 's': order.sessions = number("-s", optarg, 1, SESSIONS_MAX); break;
        case 't': path = optarg; break;
        case 'k': order.kind = kind_number(optarg); break;
        case 'p': order.pace_ms = number("--pace-ms", optarg, TICK_MS, 3600000); break;
        case 'a': origins = number("--addresses", optarg, 1, 65000); break;
        case 'S': order.seconds_max = number("--seconds-max", optarg, 1, 3600); break;
        case 'o':
            if (inet_pton(AF_INET, optarg, &origin) != 1 || !is_loopback(origin))
                refuse("hostile", "--from is an address of loopback");
            break;
        default: exit(2);
        }
    }
    if (optind != argc - 1 || strlen(path) > 200 || strpbrk(path, "\r\n<> ") ||
        (origins > 1 && !origin.s_addr))
        refuse("hostile", "options, then ADDRESS:PORT; --addresses needs --from");
    target = loopback_place(argv[optind]);
    return order;
}

static void run(const struct order *order)
{
    uint64_t begin_ns = now_ns(), elapsed_ms = 0;
    uint64_t done = 0; /* steps of all sessions together, which take their turns in order */
    int is_open = 1;
    while (is_open && elapsed_ms < (uint64_t)order->seconds_max * 1000) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(epoll, events, EVENTS_MAX, TICK_MS);
        for (int index = 0; index < count; index++) {
            char octets[64];
            if (events[index].data.ptr)
                wake(events[index].data.ptr, events[index].events);
            else
                is_open = read(STDIN_FILENO, octets, sizeof octets) > 0;
        }
        elapsed_ms = (now_ns() - begin_ns) / 1000000;
        uint64_t due = elapsed_ms * (uint64_t)order->sessions / (uint64_t)order->pace_ms;
        for (; done < due; done++)
            step(&sessions[done % (uint64_t)order->sessions]);
    }
    report((double)(now_ns() - begin_ns) / 1e9);
}

int main(int argc, char **argv)
{
    struct order order = read_order(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    require_descriptors(order.sessions);
    sessions = calloc((size_t)order.sessions, sizeof *sessions);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (!sessions || epoll < 0)
        stop("memory");
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event))
        stop("a pipe is needed as standard input");
    make_hello();
    for (long index = 0; index < order.sessions; index++) {
        struct session *session = &sessions[index];
        session->link.fd = -1;
        session->index = (int)index;
        session->kind = order.kind == KINDS ? (enum kind)(index % KINDS) : (enum kind)order.kind;
        tallies[session->kind].sessions++;
    }
    run(&order);
    return 0;
}
