/*
 * What the programs of this directory share: a connection, plain or TLS, that never blocks; the
 * clock; options as bounded numbers; addresses of loopback.
 *
 * One thread. A link belongs to its session; a descriptor is registered once, edge-triggered, so
 * that whoever is woken reads and writes until LINK_AGAIN.
 */

#ifndef FASTMTA_LINK_H
#define FASTMTA_LINK_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { LINK_AGAIN = -1, LINK_FAILED = -2 };
enum { DESCRIPTORS_SPARE = 64 };

struct link {
    int fd;   /* -1: none */
    SSL *ssl; /* NULL: plain */
};

static inline void stop(const char *what)
{
    if (errno)
        perror(what);
    else
        fprintf(stderr, "%s\n", what);
    exit(2);
}

static inline void refuse(const char *program, const char *what)
{
    fprintf(stderr, "%s: %s\n", program, what);
    exit(2);
}

static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The whole text as a number from least to most; anything else ends the program. */
static inline long number(const char *name, const char *text, long least, long most)
{
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < least || value > most) {
        fprintf(stderr, "%s: a number from %ld to %ld is needed, not %s\n", name, least, most,
                text);
        exit(2);
    }
    return value;
}

static inline int is_loopback(struct in_addr address)
{
    return ntohl(address.s_addr) >> 24 == 127;
}

/* `ADDRESS:PORT`, IPv4 of loopback; anything else ends the program. */
static inline struct sockaddr_in loopback_place(const char *text)
{
    struct sockaddr_in place = {.sin_family = AF_INET};
    char host[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    errno = 0;
    if (!colon || (size_t)(colon - text) >= sizeof host)
        stop("write an address of loopback and a port, like 127.0.0.1:2525");
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    if (inet_pton(AF_INET, host, &place.sin_addr) != 1 || !is_loopback(place.sin_addr)) {
        errno = 0;
        stop("an address of loopback (127.0.0.0/8) is needed");
    }
    place.sin_port = htons((uint16_t)number("port", colon + 1, 1, 65535));
    return place;
}

/* Room for so many descriptors, or the program ends and says what it may have. */
static inline void require_descriptors(long count)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)(count + DESCRIPTORS_SPARE);
    if (getrlimit(RLIMIT_NOFILE, &limit))
        stop("getrlimit");
    if (limit.rlim_cur >= wanted)
        return;
    if (limit.rlim_max < wanted)
        limit.rlim_max = wanted; /* root may */
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        stop("not enough descriptors (ulimit -n)");
}

/* A socket on its way to `target`, from `origin` when that is not NULL; -1 with errno. */
static inline int link_connect(const struct sockaddr_in *target, const struct in_addr *origin)
{
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (origin) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = *origin};
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&from, sizeof from))
            goto failed;
    }
    if (!connect(fd, (const struct sockaddr *)target, sizeof *target) || errno == EINPROGRESS)
        return fd;
failed:;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static inline void link_watch(int epoll, struct link *link, void *owner)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = owner};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, link->fd, &event))
        stop("epoll_ctl");
}

/* What an OpenSSL call that did not succeed means here. */
static inline long link_trouble(struct link *link, int result)
{
    int kind = SSL_get_error(link->ssl, result);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE)
        return LINK_AGAIN;
    return kind == SSL_ERROR_ZERO_RETURN ? 0 : LINK_FAILED;
}

/* Octets read; 0 at the end; LINK_AGAIN; LINK_FAILED. */
static inline long link_read(struct link *link, char *buffer, size_t size)
{
    if (link->ssl) {
        ERR_clear_error();
        int got = SSL_read(link->ssl, buffer, (int)size);
        return got > 0 ? got : link_trouble(link, got);
    }
    for (;;) {
        ssize_t got = recv(link->fd, buffer, size, 0);
        if (got >= 0)
            return got;
        if (errno != EINTR)
            return errno == EAGAIN || errno == ENOTCONN ? LINK_AGAIN : LINK_FAILED;
    }
}

/* Octets written, perhaps fewer than asked for; LINK_AGAIN; LINK_FAILED. */
static inline long link_write(struct link *link, const char *octets, size_t size)
{
    if (link->ssl) {
        ERR_clear_error();
        int put = SSL_write(link->ssl, octets, (int)size);
        return put > 0 ? put : link_trouble(link, put);
    }
    for (;;) {
        ssize_t put = send(link->fd, octets, size, MSG_NOSIGNAL);
        if (put >= 0)
            return put;
        if (errno != EINTR)
            return errno == EAGAIN || errno == ENOTCONN ? LINK_AGAIN : LINK_FAILED;
    }
}

/* 1 when the handshake is over; LINK_AGAIN; LINK_FAILED. */
static inline long link_handshake(struct link *link)
{
    ERR_clear_error();
    int done = SSL_do_handshake(link->ssl);
    if (done == 1)
        return 1;
    return link_trouble(link, done) == LINK_AGAIN ? LINK_AGAIN : LINK_FAILED;
}

static inline void link_close(struct link *link)
{
    if (link->ssl) {
        ERR_clear_error();
        if (SSL_is_init_finished(link->ssl))
            SSL_shutdown(link->ssl); /* says close_notify and does not wait for the other's */
        SSL_free(link->ssl);
    }
    if (link->fd >= 0)
        close(link->fd);
    link->ssl = NULL;
    link->fd = -1;
}

/* Modes that every context here has: short writes, moving buffers; lean: no buffers while idle. */
static inline void link_context(SSL_CTX *context, int is_lean)
{
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  (is_lean ? SSL_MODE_RELEASE_BUFFERS : 0));
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
}

/* `TLSv1.2` or `TLSv1.3`; anything else ends the program. */
static inline int protocol_version(const char *name, const char *text)
{
    if (!strcmp(text, "TLSv1.2"))
        return TLS1_2_VERSION;
    if (!strcmp(text, "TLSv1.3"))
        return TLS1_3_VERSION;
    fprintf(stderr, "%s: TLSv1.2 or TLSv1.3, not %s\n", name, text);
    exit(2);
}

#endif
