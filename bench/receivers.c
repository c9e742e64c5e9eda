/*
 * Thousands of receivers on loopback in one process: MX sites with an address each, which answer
 * after a delay of their own, and dead ones.
 *
 *   receivers [--delays MS[,MS..]] [--final] [--dead-from N] [--arrivals FILE]
 *             ADDRESS:PORT SITES PAGE
 *
 * Site n has the address ADDRESS + 256 (n / 250) + n % 250 and the (n modulo count)th delay. Every
 * reply, or group of replies to commands that came together, leaves so much later than what it
 * answers, the greeting too; with --final only the one to the end of data does. Sites from N on are
 * dead: those with an even number refuse connections, the others never answer a SYN (a listener
 * whose queue is full, which we fill ourselves).
 *
 * PAGE must exist and hold 4096 octets, u64 each: messages answered, connections, open ones, the
 * most open ones, the most open ones of one site, arrivals, arrivals without room. Its octet 4088
 * is 1 when all sites are ready. FILE must exist; it has room for as many arrivals as its size
 * says, of 24 octets each: when MAIL came, when the end of data came (CLOCK_MONOTONIC, ns, u64),
 * site, and the digits before the @ of the last RCPT (u32).
 *
 * One process, one thread, epoll. Delays of one length form a queue in order of arrival, so that no
 * heap is needed. Speaks as much SMTP as a correct client needs, PIPELINING included.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stddef.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "link.h"

enum {
    EVENTS_MAX = 512, INPUT_OCTETS = 65536, OUTPUT_OCTETS = 4096, DELAYS_MAX = 16,
    SITES_MAX = 20000, PER_BLOCK = 250, PAGE_OCTETS = 4096, BACKLOG = 512, FILLERS = 2,
    SESSIONS_MAX = 8000,
};
enum { MESSAGES, CONNECTIONS, OPEN, OPEN_MOST, SITE_MOST, ARRIVALS, LOST, READY = 511 };

struct site {
    int fd;                 /* its listener */
    uint32_t number;
    long open;
};

struct session {
    struct link link;
    struct site *site;
    int is_data;
    int is_waiting;         /* its output is held back, and nothing is read meanwhile */
    int is_ending;          /* closed once the output has left */
    int has_answer;         /* the output has the reply to an end of data */
    uint64_t due_ns, begun_ns;
    uint32_t recipient;
    struct session *next;   /* in the queue of its delay */
    size_t count, output_count;
    char output[OUTPUT_OCTETS];
    char input[INPUT_OCTETS];
};

struct arrival {
    uint64_t begun_ns, ended_ns;
    uint32_t site, recipient;
};

struct queue {
    uint64_t delay_ns;
    struct session *head, *tail;
};

static struct queue queues[DELAYS_MAX];
static long delays = 1;
static int is_final;
static struct site *sites;
static long site_count;
static uint64_t *page;
static struct arrival *arrivals;
static size_t arrivals_max;

static void release(struct session *session)
{
    link_close(&session->link);
    page[OPEN]--;
    session->site->open--;
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

/* The digits before the last @, as far as they fit. */
static uint32_t recipient_number(const char *line)
{
    const char *at = strrchr(line, '@'), *begin = at;
    while (begin && begin > line && begin[-1] >= '0' && begin[-1] <= '9')
        begin--;
    return at ? (uint32_t)strtoul(begin, NULL, 10) : 0;
}

static void command(struct session *session, const char *line)
{
    if (!strncasecmp(line, "EHLO", 4)) {
        say(session, "250-receiver.test\r\n250-PIPELINING\r\n250-SIZE\r\n250-8BITMIME\r\n"
                     "250 ENHANCEDSTATUSCODES\r\n");
    } else if (!strncasecmp(line, "DATA", 4)) {
        say(session, "354 Go\r\n");
        session->is_data = 1;
    } else if (!strncasecmp(line, "QUIT", 4)) {
        say(session, "221 2.0.0 Bye\r\n");
        session->is_ending = 1;
    } else {
        if (!strncasecmp(line, "MAIL", 4))
            session->begun_ns = now_ns();
        else if (!strncasecmp(line, "RCPT", 4))
            session->recipient = recipient_number(line);
        say(session, "250 2.0.0 Ok\r\n");
    }
}

static void end_content(struct session *session)
{
    session->is_data = 0;
    session->has_answer = 1;
    say(session, "250 2.0.0 Ok\r\n");
    if (!arrivals)
        return;
    if (page[ARRIVALS] == arrivals_max) {
        page[LOST]++;
        return;
    }
    arrivals[page[ARRIVALS]] = (struct arrival){session->begun_ns, now_ns(),
                                                session->site->number, session->recipient};
    __atomic_add_fetch(&page[ARRIVALS], 1, __ATOMIC_RELEASE);
}

/* Consume what is complete, up to the end of one message. */
static void consume(struct session *session)
{
    size_t pos = 0;
    while (!session->is_ending && !session->has_answer) {
        char *begin = session->input + pos;
        size_t left = session->count - pos;
        char *end = memmem(begin, left, session->is_data ? "\r\n.\r\n" : "\r\n",
                           session->is_data ? 5 : 2);
        if (!end) {
            pos += session->is_data && left > 4 ? left - 4 : 0;
            break;
        }
        pos += (size_t)(end - begin) + (session->is_data ? 5 : 2);
        if (session->is_data) {
            end_content(session);
        } else {
            *end = 0;
            command(session, begin);
        }
    }
    memmove(session->input, session->input + pos, session->count - pos);
    session->count -= pos;
}

/* Hold the output back; 0 when this receiver does not. */
static int hold_back(struct session *session)
{
    struct queue *queue = &queues[session->site->number % (uint32_t)delays];
    if (!queue->delay_ns || (is_final && !session->has_answer))
        return 0;
    session->is_waiting = 1;
    session->due_ns = now_ns() + queue->delay_ns;
    session->next = NULL;
    if (queue->tail)
        queue->tail->next = session;
    else
        queue->head = session;
    queue->tail = session;
    return 1;
}

/* Write the output, which is short and has room in any socket; 0 when the session is over. */
static int deliver_output(struct session *session)
{
    if (session->has_answer)
        __atomic_add_fetch(&page[MESSAGES], 1, __ATOMIC_RELAXED);
    session->has_answer = 0;
    long put = link_write(&session->link, session->output, session->output_count);
    int is_whole = put == (long)session->output_count;
    session->output_count = 0;
    return is_whole && !session->is_ending;
}

/* Read, answer, wait; 0 when the session is over. */
static int proceed(struct session *session)
{
    while (!session->is_waiting) {
        consume(session);
        if (session->output_count) {
            if (!hold_back(session) && !deliver_output(session))
                return 0;
            continue;
        }
        if (session->count == INPUT_OCTETS)
            return 0;
        long got = link_read(&session->link, session->input + session->count,
                             INPUT_OCTETS - session->count);
        if (got == LINK_AGAIN)
            return 1;
        if (got <= 0)
            return 0;
        session->count += (size_t)got;
    }
    return 1;
}

static void answer_due(void)
{
    uint64_t now = now_ns();
    for (long index = 0; index < delays; index++) {
        struct queue *queue = &queues[index];
        while (queue->head && queue->head->due_ns <= now) {
            struct session *session = queue->head;
            queue->head = session->next;
            if (!queue->head)
                queue->tail = NULL;
            session->is_waiting = 0;
            if (!deliver_output(session) || !proceed(session))
                release(session);
        }
    }
}

/* Until an event, or until the next output is due, to the microsecond. */
static int wait_for_events(int epoll, struct epoll_event *events)
{
    uint64_t first_ns = UINT64_MAX, now = now_ns();
    for (long index = 0; index < delays; index++)
        if (queues[index].head && queues[index].head->due_ns < first_ns)
            first_ns = queues[index].head->due_ns;
    uint64_t left_ns = first_ns > now ? first_ns - now : 0;
    struct timespec wait = {(time_t)(left_ns / 1000000000u), (long)(left_ns % 1000000000u)};
    return epoll_pwait2(epoll, events, EVENTS_MAX, first_ns == UINT64_MAX ? NULL : &wait, NULL);
}

static void greet(struct site *site, int fd, int epoll)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct session *session = malloc(sizeof *session);
    if (!session)
        stop("memory");
    memset(session, 0, offsetof(struct session, output));
    session->link.fd = fd;
    session->site = site;
    page[CONNECTIONS]++;
    if (++page[OPEN] > page[OPEN_MOST])
        page[OPEN_MOST] = page[OPEN];
    if (++site->open > (long)page[SITE_MOST])
        page[SITE_MOST] = (uint64_t)site->open;
    link_watch(epoll, &session->link, session);
    say(session, "220 receiver.test ESMTP\r\n");
    if (!proceed(session))
        release(session);
}

static void accept_all(struct site *site, int epoll)
{
    for (;;) {
        int fd = accept4(site->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        greet(site, fd, epoll);
    }
}

static int open_listener(const struct sockaddr_in *place, int backlog)
{
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (const struct sockaddr *)place, sizeof *place) || listen(fd, backlog))
        stop("listen");
    return fd;
}

/* A listener that nobody accepts from, its queue filled until no SYN is answered any more. */
static void open_black_hole(const struct sockaddr_in *place)
{
    open_listener(place, 0);
    for (int count = 0; count < FILLERS; count++)
        if (link_connect(place, NULL) < 0)
            stop("connect");
}

/* Sockets carry the index of their site, shifted, with the lowest bit set: no pointer has that. */
static void open_sites(struct sockaddr_in place, long dead_from, int epoll)
{
    uint32_t first = ntohl(place.sin_addr.s_addr);
    for (long index = 0; index < site_count; index++) {
        place.sin_addr.s_addr =
            htonl(first + (uint32_t)(index / PER_BLOCK * 256 + index % PER_BLOCK));
        sites[index].number = (uint32_t)index;
        if (index >= dead_from) {
            if (index % 2)
                open_black_hole(&place);
            continue;
        }
        sites[index].fd = open_listener(&place, BACKLOG);
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)index << 1 | 1};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, sites[index].fd, &event))
            stop("epoll_ctl");
    }
    page[READY] = 1;
}

static void read_delays(char *text)
{
    delays = 0;
    for (char *word = strtok(text, ","); word; word = strtok(NULL, ",")) {
        if (delays == DELAYS_MAX)
            refuse("receivers", "too many delays");
        queues[delays++].delay_ns = (uint64_t)number("--delays", word, 0, 60000) * 1000000u;
    }
    if (!delays)
        refuse("receivers", "--delays needs at least one");
}

static void *map_file(const char *path, size_t *octets)
{
    struct stat facts;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0 || fstat(file, &facts))
        stop(path);
    *octets = (size_t)facts.st_size;
    void *found = mmap(NULL, *octets, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (found == MAP_FAILED)
        stop(path);
    close(file);
    return found;
}

static void serve(int epoll)
{
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int ready = wait_for_events(epoll, events);
        for (int index = 0; index < ready; index++) {
            struct session *session = events[index].data.ptr;
            if (events[index].data.u64 & 1)
                accept_all(&sites[events[index].data.u64 >> 1], epoll);
            else if (!session->is_waiting && !proceed(session))
                release(session);
        }
        answer_due();
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"delays", required_argument, NULL, 'd'},   {"final", no_argument, NULL, 'f'},
        {"dead-from", required_argument, NULL, 'x'}, {"arrivals", required_argument, NULL, 'a'},
        {NULL, 0, NULL, 0},
    };
    long dead_from = SITES_MAX;
    size_t octets = 0;
    int letter;
    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (letter == 'd')
            read_delays(optarg);
        else if (letter == 'f')
            is_final = 1;
        else if (letter == 'x')
            dead_from = number("--dead-from", optarg, 0, SITES_MAX);
        else if (letter == 'a') {
            arrivals = map_file(optarg, &octets);
            arrivals_max = octets / sizeof *arrivals;
        } else
            exit(2);
    }
    if (argc - optind != 3)
        refuse("receivers", "[options] ADDRESS:PORT SITES PAGE");
    struct sockaddr_in place = loopback_place(argv[optind]);
    site_count = number("SITES", argv[optind + 1], 1, SITES_MAX);
    page = map_file(argv[optind + 2], &octets);
    if (octets < PAGE_OCTETS)
        refuse("receivers", "PAGE is too short");
    signal(SIGPIPE, SIG_IGN);
    long dead = dead_from < site_count ? site_count - dead_from : 0;
    require_descriptors(site_count - dead + (dead + 1) / 2 * (1 + FILLERS) + SESSIONS_MAX);
    sites = calloc((size_t)site_count, sizeof *sites);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!sites || epoll < 0)
        stop("memory");
    open_sites(place, dead_from, epoll);
    serve(epoll);
}
