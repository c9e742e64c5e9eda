/*
 * The least that a server can do, for ceilings: it says 250 to everything, 354 to DATA, and stores
 * nothing. Plain, STARTTLS or TLS from the first octet; session tickets on request.
 *
 *   responder [--implicit] [--require-tls] [--tickets N] [--pipelining] [--count FILE]
 *             ADDRESS:PORT [CHAIN.pem KEY.pem]
 *
 * ADDRESS is one of loopback. Without a certificate there is no TLS. N session tickets are issued
 * per handshake (0: no session is resumed). FILE must exist and hold 4096 octets; offset 0 is the
 * number of messages answered (u64), offset 8 that of handshakes, offset 16 of resumed ones. One
 * process, one thread, epoll; it runs until it is killed.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stddef.h>
#include <strings.h>
#include <sys/mman.h>

#include "link.h"

enum { EVENTS_MAX = 256, INPUT_OCTETS = 65536, OUTPUT_OCTETS = 2048 };

struct session {
    struct link link;
    int is_data;
    int is_securing;
    int is_ending;          /* closed once the output has left */
    size_t count;
    size_t output_count;
    char input[INPUT_OCTETS];
    char output[OUTPUT_OCTETS];
};

static SSL_CTX *context;
static int is_implicit, is_pipelining, is_tls_required;
static uint64_t unread[3], *counts = unread; /* messages, handshakes, resumed ones */

static void release(struct session *session)
{
    link_close(&session->link);
    free(session);
}

static void say(struct session *session, const char *text)
{
    size_t count = strlen(text);
    if (session->output_count + count > OUTPUT_OCTETS) {
        session->is_ending = 1; /* nobody who waits for replies gets here */
        return;
    }
    memcpy(session->output + session->output_count, text, count);
    session->output_count += count;
}

static void secure(struct session *session)
{
    session->is_securing = 1;
    session->link.ssl = SSL_new(context);
    if (!session->link.ssl || !SSL_set_fd(session->link.ssl, session->link.fd))
        stop("SSL_new");
    SSL_set_accept_state(session->link.ssl);
}

static void command(struct session *session, const char *line)
{
    if (!strncasecmp(line, "EHLO", 4)) {
        say(session, "250-responder.test\r\n");
        if (context && !session->link.ssl)
            say(session, "250-STARTTLS\r\n");
        if (is_pipelining)
            say(session, "250-PIPELINING\r\n");
        say(session, "250 8BITMIME\r\n");
    } else if (!strncasecmp(line, "STARTTLS", 8) && context && !session->link.ssl) {
        say(session, "220 2.0.0 Go\r\n");
        session->is_securing = 1;
    } else if (is_tls_required && !session->link.ssl && !strncasecmp(line, "MAIL", 4)) {
        say(session, "530 5.7.0 Must issue a STARTTLS command first\r\n");
    } else if (!strncasecmp(line, "DATA", 4)) {
        say(session, "354 Go\r\n");
        session->is_data = 1;
    } else if (!strncasecmp(line, "QUIT", 4)) {
        say(session, "221 2.0.0 Bye\r\n");
        session->is_ending = 1;
    } else {
        say(session, "250 2.0.0 Ok\r\n");
    }
}

/* Consume what is complete. */
static void consume(struct session *session)
{
    size_t pos = 0;
    while (!session->is_ending && !session->is_securing) {
        char *begin = session->input + pos;
        size_t left = session->count - pos;
        char *end = memmem(begin, left, session->is_data ? "\r\n.\r\n" : "\r\n",
                           session->is_data ? 5 : 2);
        if (!end) {
            size_t keep = session->is_data && left > 4 ? 4 : left;
            pos += left - keep;
            break;
        }
        pos += (size_t)(end - begin) + (session->is_data ? 5 : 2);
        if (session->is_data) {
            session->is_data = 0;
            __atomic_add_fetch(&counts[0], 1, __ATOMIC_RELAXED);
            say(session, "250 2.0.0 Ok\r\n");
        } else {
            *end = 0;
            command(session, begin);
        }
    }
    memmove(session->input, session->input + pos, session->count - pos);
    session->count -= pos;
}

/* 1 when all has left, 0 when the peer has to read first, -1 when it is gone. */
static int flush_output(struct session *session)
{
    while (session->output_count) {
        long put = link_write(&session->link, session->output, session->output_count);
        if (put == LINK_AGAIN)
            return 0;
        if (put < 0)
            return -1;
        memmove(session->output, session->output + put, session->output_count - (size_t)put);
        session->output_count -= (size_t)put;
    }
    return 1;
}

/* LINK_AGAIN when the session waits for its peer; anything else: it is over. */
static long proceed(struct session *session)
{
    for (;;) {
        if (session->link.ssl && session->is_securing) {
            long done = link_handshake(&session->link);
            if (done != 1)
                return done;
            session->is_securing = 0;
            __atomic_add_fetch(&counts[1], 1, __ATOMIC_RELAXED);
            if (SSL_session_reused(session->link.ssl))
                __atomic_add_fetch(&counts[2], 1, __ATOMIC_RELAXED);
            if (is_implicit)
                say(session, "220 responder.test ESMTP\r\n");
        }
        int flushed = flush_output(session);
        if (flushed <= 0)
            return flushed ? LINK_FAILED : LINK_AGAIN;
        if (session->is_ending)
            return 0;
        if (session->is_securing) {
            if (session->count)
                return LINK_FAILED; /* plain octets after STARTTLS */
            secure(session);
            continue;
        }
        if (session->count == INPUT_OCTETS)
            return LINK_FAILED;
        long got = link_read(&session->link, session->input + session->count,
                             INPUT_OCTETS - session->count);
        if (got <= 0)
            return got;
        session->count += (size_t)got;
        consume(session);
    }
}

static void accept_all(int listener, int epoll)
{
    for (;;) {
        int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct session *session = malloc(sizeof *session);
        if (!session)
            stop("memory");
        memset(session, 0, offsetof(struct session, input));
        session->link.fd = fd;
        if (is_implicit)
            secure(session);
        else
            say(session, "220 responder.test ESMTP\r\n");
        link_watch(epoll, &session->link, session);
    }
}

static void make_context(const char *chain, const char *key, long tickets)
{
    context = SSL_CTX_new(TLS_server_method());
    errno = 0;
    if (!context || SSL_CTX_use_certificate_chain_file(context, chain) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        stop("the certificate or its key cannot be used");
    link_context(context, 0);
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_num_tickets(context, (size_t)tickets);
    if (!tickets) {
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    }
}

static void count_in(const char *path)
{
    int file = open(path, O_RDWR | O_CLOEXEC);
    void *page = file < 0 ? MAP_FAILED
                          : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED)
        stop(path);
    counts = page;
}

static int open_listener(const struct sockaddr_in *place)
{
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (const struct sockaddr *)place, sizeof *place) ||
        listen(listener, 4096))
        stop("listen");
    return listener;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"implicit", no_argument, NULL, 'i'}, {"tickets", required_argument, NULL, 't'},
        {"pipelining", no_argument, NULL, 'p'}, {"require-tls", no_argument, NULL, 'r'},
        {"count", required_argument, NULL, 'c'},
        {NULL, 0, NULL, 0},
    };
    long tickets = 0;
    int letter;
    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (letter == 'i')
            is_implicit = 1;
        else if (letter == 't')
            tickets = number("--tickets", optarg, 0, 16);
        else if (letter == 'p')
            is_pipelining = 1;
        else if (letter == 'r')
            is_tls_required = 1;
        else if (letter == 'c')
            count_in(optarg);
        else
            exit(2);
    }
    char **words = argv + optind;
    int count = argc - optind;
    if (count != 3 && (count != 1 || is_implicit))
        refuse("responder", "[--implicit] [--require-tls] [--tickets N] [--pipelining] "
                            "[--count FILE] ADDRESS:PORT [CHAIN.pem KEY.pem]");
    struct sockaddr_in place = loopback_place(words[0]);
    signal(SIGPIPE, SIG_IGN);
    if (count == 3)
        make_context(words[1], words[2], tickets);
    int listener = open_listener(&place), epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
        stop("epoll");
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(epoll, events, EVENTS_MAX, -1);
        for (int index = 0; index < ready; index++) {
            struct session *session = events[index].data.ptr;
            if (!session)
                accept_all(listener, epoll);
            else if (proceed(session) != LINK_AGAIN)
                release(session);
        }
    }
}
