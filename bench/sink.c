/*
 * A receiver for the cases that smtp-sink cannot play: it answers the end of data after a delay in
 * milliseconds (smtp-sink waits whole seconds only), to thousands of connections at once.
 *
 *   sink [ADDRESS:]PORT DELAY_MS COUNTER_FILE
 *
 * ADDRESS is one of loopback, 127.0.0.1 by default. COUNTER_FILE must exist and hold 4096 octets;
 * offset 0 is the number of messages answered (u64).
 * One process, epoll; delays are equal, so that a queue in order of arrival needs no heap.
 * Speaks as much SMTP as a correct client needs, PIPELINING included.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_OCTETS = 65536, EVENTS_MAX = 256, OUTPUT_OCTETS = 4096 };

struct session {
    int fd;
    int is_data;
    int is_waiting;          /* the answer to the end of data is being held back */
    int is_closed;           /* freed when its delayed answer is due */
    uint64_t due_ns;
    struct session *next;    /* in the queue of delayed answers */
    size_t count;            /* octets in buffer */
    char buffer[BUFFER_OCTETS];
    size_t output_count;
    char output[OUTPUT_OCTETS];
};

static struct session *queue_head, *queue_tail;
static uint64_t *messages;
static uint64_t delay_ns;

static void stop(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void say(struct session *session, const char *text)
{
    size_t count = strlen(text);
    if (session->output_count + count > OUTPUT_OCTETS)
        stop("too many commands in one flight");
    memcpy(session->output + session->output_count, text, count);
    session->output_count += count;
}

/* Small answers to a reading client: the socket always has room for them. */
static void flush_output(struct session *session)
{
    if (session->output_count && !session->is_closed)
        if (write(session->fd, session->output, session->output_count) < 0 && errno != EPIPE &&
            errno != ECONNRESET)
            stop("write");
    session->output_count = 0;
}

static void answer_content(struct session *session)
{
    __atomic_add_fetch(messages, 1, __ATOMIC_RELAXED);
    say(session, "250 2.0.0 Ok\r\n");
}

static void end_content(struct session *session)
{
    session->is_data = 0;
    if (!delay_ns) {
        answer_content(session);
        return;
    }
    session->is_waiting = 1;
    session->due_ns = now_ns() + delay_ns;
    session->next = NULL;
    if (queue_tail)
        queue_tail->next = session;
    else
        queue_head = session;
    queue_tail = session;
}

/* 0 when the session is over. */
static int command(struct session *session, const char *line)
{
    if (!strncasecmp(line, "EHLO", 4)) {
        say(session, "250-sink.test\r\n250-PIPELINING\r\n250-SIZE\r\n250-8BITMIME\r\n"
                     "250 ENHANCEDSTATUSCODES\r\n");
    } else if (!strncasecmp(line, "DATA", 4)) {
        say(session, "354 Go\r\n");
        session->is_data = 1;
    } else if (!strncasecmp(line, "QUIT", 4)) {
        say(session, "221 2.0.0 Bye\r\n");
        return 0;
    } else {
        say(session, "250 2.0.0 Ok\r\n");
    }
    return 1;
}

/* Consume what is complete; 0 when the session is over. */
static int proceed(struct session *session)
{
    size_t pos = 0;
    int is_open = 1;
    while (is_open && !session->is_waiting) {
        char *begin = session->buffer + pos;
        size_t left = session->count - pos;
        if (session->is_data) {
            char *end = memmem(begin, left, "\r\n.\r\n", 5);
            if (!end) {
                size_t keep = left < 4 ? left : 4;
                pos += left - keep;
                break;
            }
            pos += (size_t)(end - begin) + 5;
            end_content(session);
            continue;
        }
        char *end = memmem(begin, left, "\r\n", 2);
        if (!end)
            break;
        *end = 0;
        pos += (size_t)(end - begin) + 2;
        is_open = command(session, begin);
    }
    memmove(session->buffer, session->buffer + pos, session->count - pos);
    session->count -= pos;
    flush_output(session);
    return is_open;
}

static void release(struct session *session)
{
    close(session->fd);
    session->is_closed = 1;
    if (!session->is_waiting)
        free(session);
}

static void readable(struct session *session)
{
    if (session->count == BUFFER_OCTETS)
        stop("client sends on while it should wait");
    ssize_t got = read(session->fd, session->buffer + session->count,
                       BUFFER_OCTETS - session->count);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        release(session);
        return;
    }
    session->count += (size_t)got;
    if (!proceed(session))
        release(session);
}

static void answer_due(void)
{
    uint64_t now = now_ns();
    while (queue_head && queue_head->due_ns <= now) {
        struct session *session = queue_head;
        queue_head = session->next;
        if (!queue_head)
            queue_tail = NULL;
        session->is_waiting = 0;
        if (session->is_closed) {
            free(session);
            continue;
        }
        answer_content(session);
        if (!proceed(session))
            release(session);
    }
}

static void accept_all(int listener, int epoll)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct session *session = calloc(1, sizeof *session);
        if (!session)
            stop("memory");
        session->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = session};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
            stop("epoll_ctl");
        say(session, "220 sink.test ESMTP\r\n");
        flush_output(session);
    }
}

static int open_listener(char *place)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET};
    char *colon = strchr(place, ':');
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)atoi(colon ? colon + 1 : place));
    if (colon) {
        *colon = 0;
        if (!inet_aton(place, &address.sin_addr) || ntohl(address.sin_addr.s_addr) >> 24 != 127)
            stop("an address of loopback is needed");
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) ||
        listen(listener, 4096))
        stop("listen");
    return listener;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: sink [ADDRESS:]PORT DELAY_MS COUNTER_FILE\n");
        return 2;
    }
    delay_ns = strtoull(argv[2], NULL, 10) * 1000000u;
    int counter = open(argv[3], O_RDWR | O_CLOEXEC);
    messages = counter < 0 ? MAP_FAILED
                           : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, counter, 0);
    if (messages == MAP_FAILED)
        stop(argv[3]);
    int listener = open_listener(argv[1]);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
        stop("epoll");
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int wait_ms = -1;
        if (queue_head) {
            int64_t left_ns = (int64_t)(queue_head->due_ns - now_ns());
            wait_ms = left_ns > 0 ? (int)(left_ns / 1000000) + 1 : 0;
        }
        int ready = epoll_wait(epoll, events, EVENTS_MAX, wait_ms);
        for (int index = 0; index < ready; index++) {
            if (events[index].data.ptr)
                readable(events[index].data.ptr);
            else
                accept_all(listener, epoll);
        }
        answer_due();
    }
}
