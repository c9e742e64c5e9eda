/*
 * A load source, plain or TLS: what smtp-source does, one command at a time, for servers that are
 * to be compared. `source --help` lists the options; addresses of loopback only.
 *
 * Prints one line of JSON at the end: messages that got their 250, seconds, connections,
 * handshakes (resumed ones, session tickets that came), the time from the last octet of the end of
 * data to its 250, and errors. With --hold it prints such a line when every session is idle, and
 * another when standard input has ended: sessions lost meanwhile are errors. A reply that was not
 * expected is an error, and so is anything that comes unasked; the first ones are printed, the
 * session is over, and the exit status is 1. Certificates are not verified: the peer is a server
 * under test.
 *
 * One process, one thread, epoll.
 */

#define _GNU_SOURCE
#include <signal.h>

#include "order.h"

enum { EVENTS_MAX = 256, INPUT_OCTETS = 2048, COMMAND_OCTETS = 300, ERRORS_SHOWN = 5 };

enum state {
    CLOSED, SECURING, GREETING, HELLO, STARTTLS, READY, MAIL, RCPT, DATA, CONTENT, QUITTING, HELD,
};
static const char *const state_names[] = {
    "connect", "TLS handshake", "greeting", "EHLO", "STARTTLS", "start", "MAIL", "RCPT",
    "DATA", "end of data", "QUIT", "idle",
};

struct session {
    struct link link;
    enum state state;
    int is_over;            /* it opens no connection any more */
    int is_working;         /* it counts against the ramp */
    int has_claim;          /* one of the messages is this connection's to send */
    long carried;           /* messages, over this connection */
    const char *output;     /* what is to be written still */
    size_t output_count;
    uint64_t sent_ns;       /* when the end of data was handed over */
    size_t count;           /* octets of input */
    SSL_SESSION *known;     /* for --resume */
    char input[INPUT_OCTETS];
    char command[COMMAND_OCTETS];
};

static struct order order;
static SSL_CTX *context;
static struct session *sessions;
static int epoll;
static char *content;       /* header section, body, end of data */
static size_t content_count;
static uint32_t *reply_us;
static uint64_t begin_ns;
static long begun, accepted, connections, handshakes, resumed, tickets, errors;
static long over, working, held, ready, next_origin;
static char protocol[32] = "", cipher[64] = "";

static void proceed(struct session *session);
static void start_next(struct session *session);

static void finish(struct session *session)
{
    link_close(&session->link);
    over += !session->is_over;
    working -= session->is_working;
    held -= session->state == HELD;
    session->is_over = 1;
    session->is_working = 0;
    session->state = CLOSED;
}

static void fail(struct session *session, const char *what, const char *detail)
{
    if (++errors <= ERRORS_SHOWN)
        fprintf(stderr, "source: %s: %s%.200s\n", state_names[session->state], what, detail);
    finish(session);
}

static void say(struct session *session, enum state state, const char *form, const char *argument)
{
    int count = snprintf(session->command, COMMAND_OCTETS, form, argument);
    session->output = session->command;
    session->output_count = (size_t)count;
    session->state = state;
}

static void secure(struct session *session)
{
    session->state = SECURING;
    session->link.ssl = SSL_new(context);
    if (!session->link.ssl || !SSL_set_fd(session->link.ssl, session->link.fd))
        stop("SSL_new");
    SSL_set_app_data(session->link.ssl, session);
    SSL_set_connect_state(session->link.ssl);
    if (order.is_resuming && session->known)
        SSL_set_session(session->link.ssl, session->known);
}

static void secured(struct session *session)
{
    SSL *ssl = session->link.ssl;
    handshakes++;
    resumed += SSL_session_reused(ssl);
    if (!*protocol) {
        snprintf(protocol, sizeof protocol, "%s", SSL_get_version(ssl));
        snprintf(cipher, sizeof cipher, "%s", SSL_get_cipher_name(ssl));
    }
    if (order.tls == TLS_STARTTLS)
        say(session, HELLO, "EHLO %s\r\n", "source.test");
    else
        session->state = GREETING;
}

/* A session that may be resumed has come. */
static int remember(SSL *ssl, SSL_SESSION *known)
{
    struct session *session = SSL_get_app_data(ssl);
    tickets += SSL_SESSION_has_ticket(known);
    if (!order.is_resuming)
        return 0;
    SSL_SESSION_free(session->known);
    session->known = known;
    return 1;
}

/* Take one of the messages that nobody has taken; 0 when there is none. */
static int claim(struct session *session)
{
    int has_more = order.is_holding ? session->carried < order.messages : begun < order.messages;
    begun += has_more;
    session->has_claim = has_more;
    return has_more;
}

static void connect_session(struct session *session)
{
    struct in_addr origin = order.origin;
    session->count = 0;
    session->carried = 0;
    session->output_count = 0;
    session->state = GREETING;
    if (origin.s_addr)
        origin.s_addr = htonl(ntohl(origin.s_addr) + (uint32_t)(next_origin++ % order.origins));
    session->link.fd = link_connect(&order.target, origin.s_addr ? &origin : NULL);
    if (session->link.fd < 0) {
        fail(session, "", strerror(errno));
        return;
    }
    connections++;
    if (order.tls == TLS_IMPLICIT)
        secure(session);
    link_watch(epoll, &session->link, session); /* it is woken when it is connected */
}

/* Open sessions while there is room and work for them. */
static void open_sessions(void)
{
    static long opened;
    while (opened < order.sessions && working < order.ramp) {
        struct session *session = &sessions[opened++];
        session->link.fd = -1;
        session->is_working = 1;
        working++;
        if (claim(session) || order.is_holding)
            connect_session(session);
        else
            finish(session);
    }
}

static void hold(struct session *session)
{
    session->state = HELD;
    session->is_working = 0;
    working--;
    held++;
}

/* Between messages: the next one, silence, or the end. */
static void start_next(struct session *session)
{
    int has_work = session->has_claim || (order.is_persistent && claim(session));
    session->has_claim = 0;
    if (has_work) {
        say(session, MAIL, "MAIL FROM:<%s>\r\n", order.from);
    } else if (order.is_holding) {
        hold(session);
    } else {
        say(session, QUITTING, "QUIT%s\r\n", "");
    }
}

static void start_all(void)
{
    begin_ns = now_ns();
    for (long index = 0; index < order.sessions; index++)
        if (sessions[index].state == READY) {
            start_next(&sessions[index]);
            proceed(&sessions[index]);
        }
}

static void count_reply(struct session *session)
{
    reply_us[accepted++] = (uint32_t)((now_ns() - session->sent_ns) / 1000);
    session->carried++;
}

static void end_connection(struct session *session)
{
    link_close(&session->link);
    if (!order.is_persistent && claim(session))
        connect_session(session);
    else
        finish(session);
}

/* A whole reply has come: the code, and the text for people. */
static void take_reply(struct session *session, const char *code, const char *text)
{
    static const char *const wanted[] = {
        [GREETING] = "220", [HELLO] = "250",   [STARTTLS] = "220", [MAIL] = "250",
        [RCPT] = "250",     [DATA] = "354",    [CONTENT] = "250",  [QUITTING] = "221",
        [CLOSED] = "",      [SECURING] = "",   [READY] = "",       [HELD] = "",
    };
    if (strncmp(code, wanted[session->state], 3) || !*wanted[session->state]) {
        fail(session, "not expected: ", text);
        return;
    }
    switch (session->state) {
    case GREETING: say(session, HELLO, "EHLO %s\r\n", "source.test"); break;
    case STARTTLS: secure(session); break;
    case MAIL: say(session, RCPT, "RCPT TO:<%s>\r\n", order.to); break;
    case RCPT: say(session, DATA, "DATA%s\r\n", ""); break;
    case QUITTING: end_connection(session); break;
    case HELLO:
        if (order.tls == TLS_STARTTLS && !session->link.ssl) {
            say(session, STARTTLS, "STARTTLS%s\r\n", "");
        } else if (order.is_waiting) {
            session->state = READY;
            ready++;
        } else {
            start_next(session);
        }
        break;
    case DATA:
        session->state = CONTENT;
        session->output = content;
        session->output_count = content_count;
        break;
    case CONTENT:
        count_reply(session);
        start_next(session);
        break;
    default: fail(session, "reply in a state without one: ", text);
    }
}

/* Take the reply if a whole one is there. */
static void consume(struct session *session)
{
    char *line = session->input, *end = session->input + session->count;
    for (;;) {
        char *feed = memchr(line, '\n', (size_t)(end - line));
        if (!feed) {
            if (session->count == INPUT_OCTETS)
                fail(session, "a reply is too long", "");
            return;
        }
        if (feed - line < 4 || feed[-1] != '\r' || (line[3] != ' ' && line[3] != '-' &&
                                                    line[3] != '\r')) {
            fail(session, "not a reply", "");
            return;
        }
        if (line[3] != '-') {
            feed[-1] = 0;
            if (feed + 1 != end)
                fail(session, "octets after the reply ", line);
            session->count = 0;
            if (!session->is_over)
                take_reply(session, line, line);
            return;
        }
        line = feed + 1;
    }
}

/* 1 when everything is written. */
static int flush_output(struct session *session)
{
    while (session->output_count) {
        long put = link_write(&session->link, session->output, session->output_count);
        if (put == LINK_AGAIN)
            return 0;
        if (put < 0) {
            fail(session, "cannot write", "");
            return 0;
        }
        session->output += put;
        session->output_count -= (size_t)put;
        if (!session->output_count && session->state == CONTENT)
            session->sent_ns = now_ns();
    }
    return 1;
}

/* Do what can be done; the session waits for its descriptor, or is over, afterwards. */
static void proceed(struct session *session)
{
    while (session->link.fd >= 0) {
        if (session->state == SECURING) {
            long done = link_handshake(&session->link);
            if (done == LINK_AGAIN)
                return;
            if (done == LINK_FAILED) {
                unsigned long why = ERR_peek_error();
                fail(session, "", why ? ERR_reason_error_string(why) : "the peer closed");
                return;
            }
            secured(session);
        }
        if (!flush_output(session))
            return;
        long got = link_read(&session->link, session->input + session->count,
                             INPUT_OCTETS - session->count);
        if (got == LINK_AGAIN)
            return;
        if (got <= 0) {
            fail(session, got ? "cannot read" : "the server closed", "");
            return;
        }
        session->count += (size_t)got;
        consume(session);
    }
}

/* Header section, body in lines of 80 octets, end of data. */
static void make_content(void)
{
    content = malloc((size_t)order.octets + 1024);
    if (!content)
        stop("memory");
    int head = snprintf(content, 1000,
                        "From: <%s>\r\nTo: <%s>\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\n"
                        "Message-Id: <1.%d@source.test>\r\nSubject: load\r\n\r\n",
                        order.from, order.to, (int)getpid());
    char *body = content + head;
    long count = order.octets;
    memset(body, 'X', (size_t)count);
    for (long end = 80; end <= count - 2; end += 80)
        memcpy(body + end - 2, "\r\n", 2);
    memcpy(body + count - 2, "\r\n", 2);
    memcpy(body + count, ".\r\n", 3);
    content_count = (size_t)(head + count + 3);
}

static void make_context(void)
{
    context = SSL_CTX_new(TLS_client_method());
    if (!context)
        stop("SSL_CTX_new");
    link_context(context, order.is_holding);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, remember);
    int is_set = SSL_CTX_set_min_proto_version(context, order.min_version) &&
                 SSL_CTX_set_max_proto_version(context, order.max_version);
    if (is_set && order.ciphers && !strncmp(order.ciphers, "TLS_", 4))
        is_set = SSL_CTX_set_ciphersuites(context, order.ciphers);
    else if (is_set && order.ciphers)
        is_set = SSL_CTX_set_cipher_list(context, order.ciphers);
    errno = 0;
    if (!is_set)
        stop("--min, --max or --ciphers: not what OpenSSL can do here");
}

static int ascending(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static double percentile_ms(double share)
{
    long rank = (long)(share * (double)accepted + 0.999999);
    return accepted ? reply_us[(rank > 0 ? rank : 1) - 1] / 1000.0 : 0.0;
}

static void report(uint64_t end_ns)
{
    qsort(reply_us, (size_t)accepted, sizeof *reply_us, ascending);
    printf("{\"messages\": %ld, \"seconds\": %.6f, \"connections\": %ld, \"handshakes\": %ld, "
           "\"resumed\": %ld, \"tickets\": %ld, \"protocol\": \"%s\", \"cipher\": \"%s\", "
           "\"held\": %ld, ",
           accepted, (double)(end_ns - begin_ns) / 1e9, connections, handshakes, resumed, tickets,
           protocol, cipher, held);
    printf("\"reply_p50_ms\": %.3f, \"reply_p99_ms\": %.3f, \"errors\": %ld}\n",
           percentile_ms(0.5), percentile_ms(0.99), errors);
    fflush(stdout);
}

static void watch_input(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event))
        stop("--hold needs a pipe as standard input");
}

/* 1 while standard input is open. */
static int has_input(void)
{
    char octets[64];
    return read(STDIN_FILENO, octets, sizeof octets) > 0;
}

static void run(void)
{
    uint64_t deadline_ns = begin_ns + (uint64_t)order.seconds_max * 1000000000u;
    int is_told = 0, is_open = 1;
    if (order.is_holding)
        watch_input();
    open_sessions();
    while (is_open && over < order.sessions) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(epoll, events, EVENTS_MAX, 100);
        for (int index = 0; index < count; index++) {
            if (events[index].data.ptr)
                proceed(events[index].data.ptr);
            else
                is_open = has_input();
        }
        if (order.is_waiting && ready && ready + over == order.sessions) {
            ready = 0;
            start_all();
        }
        open_sessions();
        if (order.is_holding && !is_told && held + over == order.sessions) {
            is_told = 1;
            report(now_ns());
        }
        if (now_ns() > deadline_ns) {
            errors++;
            fprintf(stderr, "source: not done after %ld s\n", order.seconds_max);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    order = read_order(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    require_descriptors(order.sessions);
    long most = order.is_holding ? order.messages * order.sessions : order.messages;
    sessions = calloc((size_t)order.sessions, sizeof *sessions);
    reply_us = calloc((size_t)(most ? most : 1), sizeof *reply_us);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!sessions || !reply_us || epoll < 0)
        stop("memory");
    make_content();
    make_context();
    begin_ns = now_ns();
    run();
    report(now_ns());
    return errors || (!order.is_holding && accepted != order.messages);
}
