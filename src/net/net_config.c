#define _GNU_SOURCE
#include "net/net_config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int bad(struct err *err, const char *word, const char *right)
{
    return err_set(err, -EINVAL, "--net: '%s' is not %s", word, right);
}

/* "ADDR:PORT" with an address that may be empty; `text` is cut up. */
static bool parse_end(char *text, struct in_addr *addr, uint16_t *port)
{
    char *colon = strrchr(text, ':'), *end;
    unsigned long number;

    if (!colon || colon[1] < '0' || colon[1] > '9')
        return false;
    *colon = '\0';
    number = strtoul(colon + 1, &end, 10);
    if (*end || number == 0 || number > 0xffff)
        return false;
    *port = (uint16_t)number;
    addr->s_addr = 0;
    return !*text || inet_pton(AF_INET, text, addr) == 1;
}

static bool parse_forward(char *text, struct net_forward *forward)
{
    char *dash = strchr(text, '-');

    forward->udp = strncmp(text, "udp:", 4) == 0;
    if (!dash || (!forward->udp && strncmp(text, "tcp:", 4) != 0))
        return false;
    *dash = '\0';
    return parse_end(text + 4, &forward->host, &forward->host_port) &&
           parse_end(dash + 1, &forward->guest, &forward->guest_port);
}

static int take_forward(struct net_config *config, const char *value, struct err *err)
{
    char copy[64];

    if (config->forward_count == NET_MAX_FORWARDS)
        return err_set(err, -EINVAL, "--net: more than %u ports to forward", NET_MAX_FORWARDS);
    snprintf(copy, sizeof copy, "%s", value);
    if (strlen(value) < sizeof copy &&
        parse_forward(copy, &config->forwards[config->forward_count])) {
        config->forward_count++;
        return 0;
    }
    return bad(err, value, "a port to forward: tcp:ADDR:PORT-:PORT, or udp:...");
}

static int take_restrict(struct net_config *config, const char *value, struct err *err)
{
    config->restricted = strcmp(value, "on") == 0;
    if (config->restricted || strcmp(value, "off") == 0)
        return 0;
    return bad(err, value, "a value of restrict: on or off");
}

static int take_mac(struct net_config *config, const char *value, struct err *err)
{
    uint8_t *m = config->mac;
    int length = 0;

    if (strspn(value, "0123456789abcdefABCDEF:") == strlen(value) &&
        sscanf(value, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &m[0], &m[1], &m[2], &m[3], &m[4],
               &m[5], &length) == 6 &&
        length == 17 && !value[length] && !(m[0] & 1)) {
        config->mac_given = true;
        return 0;
    }
    return bad(err, value, "the address of one network card, such as 52:54:00:12:34:56");
}

static int take_ifname(struct net_config *config, const char *value, struct err *err)
{
    if (!*value || strlen(value) >= sizeof config->ifname || strchr(value, '/'))
        return bad(err, value, "the name of a network interface");
    strcpy(config->ifname, value);
    return 0;
}

static const struct {
    const char *name;
    enum net_kind kind; /* NET_NONE: of every kind but that */
    int (*take)(struct net_config *config, const char *value, struct err *err);
} settings[] = {
    {"hostfwd", NET_USER, take_forward},
    {"restrict", NET_USER, take_restrict},
    {"ifname", NET_TAP, take_ifname},
    {"mac", NET_NONE, take_mac},
};

static int take_setting(struct net_config *config, const char *word, struct err *err)
{
    const size_t length = strcspn(word, "=");

    for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
        if (word[length] && strlen(settings[i].name) == length &&
            strncmp(word, settings[i].name, length) == 0 && config->kind != NET_NONE &&
            (settings[i].kind == NET_NONE || settings[i].kind == config->kind))
            return settings[i].take(config, word + length + 1, err);
    return bad(err, word,
               "a setting of this network: user takes hostfwd=, restrict= and mac=, tap takes "
               "ifname= and mac=");
}

static int take_kind(struct net_config *config, const char *word, struct err *err)
{
    if (strcmp(word, "none") == 0)
        config->kind = NET_NONE;
    else if (strcmp(word, "user") == 0)
        config->kind = NET_USER;
    else if (strcmp(word, "tap") == 0)
        config->kind = NET_TAP;
    else
        return bad(err, word, "a network: none, user or tap");
    return 0;
}

static int take_words(struct net_config *config, char *text, struct err *err)
{
    char *word = strsep(&text, ",");
    int rc = take_kind(config, word, err);

    while (rc == 0 && (word = strsep(&text, ",")))
        rc = take_setting(config, word, err);
    if (rc == 0 && config->kind == NET_TAP && !config->ifname[0])
        return err_set(err, -EINVAL, "--net: tap needs an interface: tap,ifname=NAME");
    return rc;
}

int net_config_parse(struct net_config *config, const char *text, struct err *err)
{
    char *copy = strdup(text);
    int rc;

    *config = (struct net_config){.mac = NET_DEFAULT_MAC};
    if (!copy)
        return err_set(err, -ENOMEM, "out of memory");
    rc = take_words(config, copy, err);
    free(copy);
    return rc;
}
