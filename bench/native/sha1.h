/* The one hash that a WebSocket handshake needs: SHA-1 (RFC 3174), and base64 (RFC 4648), for Sec-WebSocket-Accept. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define ACCEPT_LENGTH 28

static uint32_t rotate_left(uint32_t word, int bits) { return word << bits | word >> (32 - bits); }

static void sha1_block(uint32_t state[5], const uint8_t block[64]) {
    uint32_t words[80];
    for (int i = 0; i < 16; i++)
        words[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++)
        words[i] = rotate_left(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 80; i++) {
        uint32_t mixed, constant;
        if (i < 20) mixed = (b & c) | (~b & d), constant = 0x5a827999;
        else if (i < 40) mixed = b ^ c ^ d, constant = 0x6ed9eba1;
        else if (i < 60) mixed = (b & c) | (b & d) | (c & d), constant = 0x8f1bbcdc;
        else mixed = b ^ c ^ d, constant = 0xca62c1d6;
        uint32_t next = rotate_left(a, 5) + mixed + e + constant + words[i];
        e = d, d = c, c = rotate_left(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

/* Hash a text of at most 119 bytes: two blocks, more than a handshake's key and its suffix ever need. */
static void sha1(const char *text, uint8_t digest[20]) {
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t padded[128] = {0};
    size_t length = strlen(text), blocks = length < 56 ? 1 : 2;
    memcpy(padded, text, length);
    padded[length] = 0x80;
    for (int i = 0; i < 8; i++) padded[blocks * 64 - 1 - i] = (uint8_t)((uint64_t)length * 8 >> (8 * i));
    for (size_t i = 0; i < blocks; i++) sha1_block(state, padded + 64 * i);
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

/* Write the Sec-WebSocket-Accept that answers `key` (RFC 6455, section 4.2.2). */
static void accept_of(const char *key, char accept[ACCEPT_LENGTH + 1]) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char keyed[120];
    uint8_t digest[21] = {0};
    snprintf(keyed, sizeof keyed, "%.64s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(keyed, digest);
    for (int i = 0; i < 7; i++) {
        uint32_t group = digest[3 * i] << 16 | digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int k = 0; k < 4; k++) accept[4 * i + k] = alphabet[group >> (18 - 6 * k) & 63];
    }
    accept[ACCEPT_LENGTH - 1] = '=';
    accept[ACCEPT_LENGTH] = 0;
}
