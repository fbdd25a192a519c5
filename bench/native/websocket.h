/* WebSocket frames (RFC 6455, section 5): headers read and written, nothing else. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

#define LONGEST_HEADER 14

typedef struct {
    int opcode;
    bool is_final, is_deflated, is_masked;
    uint8_t mask[4];
    size_t header_length, length;
} FrameHeader;

/* Read the header at the start of `bytes`; false while it is not complete. */
static bool read_header(const uint8_t *bytes, size_t available, FrameHeader *header) {
    if (available < 2) return false;
    header->is_final = bytes[0] & 0x80;
    header->is_deflated = bytes[0] & 0x40;
    header->opcode = bytes[0] & 15;
    header->is_masked = bytes[1] & 0x80;
    header->length = bytes[1] & 127;
    int extra = header->length == 126 ? 2 : header->length == 127 ? 8 : 0;
    header->header_length = 2 + extra + (header->is_masked ? 4 : 0);
    if (available < header->header_length) return false;
    if (extra) header->length = 0;
    for (int i = 0; i < extra; i++) header->length = header->length << 8 | bytes[2 + i];
    if (header->is_masked) memcpy(header->mask, bytes + 2 + extra, 4);
    return true;
}

static size_t write_length(uint8_t *out, size_t length, int mask_bit) {
    if (length < 126) {
        out[1] = (uint8_t)(mask_bit | length);
        return 2;
    }
    int size = length < 65536 ? 2 : 8;
    out[1] = (uint8_t)(mask_bit | (size == 2 ? 126 : 127));
    for (int i = 0; i < size; i++) out[2 + i] = (uint8_t)((uint64_t)length >> (8 * (size - 1 - i)));
    return 2 + size;
}

/* Write the header of a server's frame; return its length. */
static size_t write_server_header(uint8_t *out, int opcode, size_t length) {
    out[0] = 0x80 | opcode;
    return write_length(out, length, 0);
}

/* Write a client's frame. Its mask is zero: allowed, and a frame can then be changed in place and sent again. */
static size_t write_client_frame(uint8_t *out, int opcode, const void *payload, size_t length) {
    out[0] = 0x80 | opcode;
    size_t size = write_length(out, length, 0x80);
    memset(out + size, 0, 4);
    memcpy(out + size + 4, payload, length);
    return size + 4 + length;
}
