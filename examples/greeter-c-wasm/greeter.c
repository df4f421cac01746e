/*
 * A greeter in C as an Extism plugin: WebAssembly without a libc and without a development kit.
 *
 * A call is one exported function without parameters. What it gets and what it gives lie in the host's
 * memory, which the functions below reach byte by byte. The order of this file: those functions, the
 * call, then just enough JSON to read {"name":"Ada"} and to write "Hello, Ada!".
 */
#include <stddef.h>
#include <stdint.h>

/* ---- What the host offers -------------------------------------------------------------------- */

#define HOST(name) __attribute__((import_module("extism:host/env"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

HOST(input_length) uint64_t input_length(void);
HOST(input_load_u8) uint32_t input_load_u8(uint64_t offset);
HOST(alloc) uint64_t host_alloc(uint64_t length);
HOST(store_u8) void store_u8(uint64_t offset, uint32_t byte);
HOST(output_set) void output_set(uint64_t offset, uint64_t length);
HOST(error_set) void error_set(uint64_t offset);

/* What the exported function returns. With the first two, what was written is a value of the
 * interface: the result, or {"err":…} with the greeter's own error. With the third it is a sentence. */
typedef enum { OK = 0, OWN_ERROR = 1, FAILED = 2 } status;

enum { NAME_CHARACTERS_MAX = 100, UTF8_BYTES_MAX = 4, ESCAPED_BYTES_MAX = 6 /* \u0007 */ };

/* A string that was read: kept as far as a name may reach, counted to its end. */
typedef struct {
    char bytes[NAME_CHARACTERS_MAX * UTF8_BYTES_MAX];
    uint32_t len, characters;
} text;

/* What is left to read of the input. */
typedef struct {
    uint64_t at, end;
} reader;

/* What is to be written; nothing that is written here is longer than the longest greeting. */
typedef struct {
    char bytes[sizeof(((text *)0)->bytes) * ESCAPED_BYTES_MAX + 64];
    uint32_t len;
} answer;

static const char *read_arguments(text *name);
static int read_string(reader *json, text *into);
static void write(answer *to, const char *words);
static void write_number(answer *to, uint32_t number);
static void write_escaped(answer *to, const text *from);

/* ---- The call -------------------------------------------------------------------------------- */

static int32_t end(status ended, const answer *with) {
    uint64_t block = host_alloc(with->len);
    for (uint32_t at = 0; at < with->len; at++) store_u8(block + at, (uint8_t)with->bytes[at]);
    if (ended == OK) output_set(block, with->len);
    else error_set(block);
    return ended;
}

EXPORT(greet) int32_t greet(void) {
    text name;
    answer out;
    name.len = name.characters = out.len = 0;

    const char *wrong = read_arguments(&name);
    if (wrong) {
        write(&out, wrong);
        return end(FAILED, &out);
    }
    if (name.characters == 0) {
        write(&out, "{\"err\":{\"tag\":\"empty-name\"}}");
        return end(OWN_ERROR, &out);
    }
    if (name.characters > NAME_CHARACTERS_MAX) {
        write(&out, "{\"err\":{\"tag\":\"too-long\",\"val\":");
        write_number(&out, name.characters);
        write(&out, "}}");
        return end(OWN_ERROR, &out);
    }
    write(&out, "\"Hello, ");
    write_escaped(&out, &name);
    write(&out, "!\"");
    return end(OK, &out);
}

/* ---- JSON, read ------------------------------------------------------------------------------ */

static int is_at_end(const reader *json) { return json->at == json->end; }

static uint8_t peek(const reader *json) { return (uint8_t)input_load_u8(json->at); }

static uint8_t next(reader *json) { return (uint8_t)input_load_u8(json->at++); }

static void skip_space(reader *json) {
    while (!is_at_end(json)) {
        uint8_t c = peek(json);
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n') return;
        json->at++;
    }
}

/* Skips white space and takes one mark, if it comes next. */
static int take(reader *json, char mark) {
    skip_space(json);
    if (is_at_end(json) || peek(json) != (uint8_t)mark) return 0;
    json->at++;
    return 1;
}

static int is_name(const text *key) {
    const char *b = key->bytes;
    return key->len == 4 && b[0] == 'n' && b[1] == 'a' && b[2] == 'm' && b[3] == 'e';
}

/* Reads {"name":"…"}, exactly. Returns what is wrong with it, or null. */
static const char *read_arguments(text *name) {
    static const char no_name[] = "`greet` wants the argument `name`, a string";
    static const char no_such[] = "`greet` has one argument, `name`";
    static const char no_json[] = "the arguments are not a JSON object";
    reader json = {0, input_length()};
    text key;
    key.len = key.characters = 0;

    if (is_at_end(&json)) return no_name;
    if (!take(&json, '{')) return no_json;
    if (take(&json, '}')) return no_name;
    if (!read_string(&json, &key) || !take(&json, ':')) return no_json;
    if (!is_name(&key)) return no_such;
    if (!read_string(&json, name)) return no_name;
    if (take(&json, ',')) return no_such;
    if (!take(&json, '}')) return no_json;
    skip_space(&json);
    return is_at_end(&json) ? NULL : no_json;
}

/* Appends a character, if there is still room for it, and counts it. */
static void append(text *into, uint32_t c) {
    if (into->characters++ >= NAME_CHARACTERS_MAX) return;
    char *to = into->bytes + into->len;
    int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t first[] = {0, 0xC0, 0xE0, 0xF0};
    into->len += (uint32_t)more + 1;
    *to++ = (char)(first[more] | c >> 6 * more);
    while (more-- > 0) *to++ = (char)(0x80 | (c >> 6 * more & 0x3F));
}

static int hex4(reader *json, uint32_t *unit) {
    if (json->end - json->at < 4) return 0;
    *unit = 0;
    for (int digit = 0; digit < 4; digit++) {
        uint32_t c = next(json), value;
        if (c >= '0' && c <= '9') value = c - '0';
        else if (c >= 'a' && c <= 'f') value = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F') value = c - 'A' + 10;
        else return 0;
        *unit = *unit << 4 | value;
    }
    return 1;
}

/* Reads what follows \u; beyond U+FFFF that is two halves, \ud83d\ude00, and half of one is no
 * character. */
static int read_unicode_escape(reader *json, uint32_t *c) {
    uint32_t low;
    if (!hex4(json, c)) return 0;
    if (*c < 0xD800 || *c > 0xDFFF) return 1;
    if (*c > 0xDBFF || json->end - json->at < 2 || next(json) != '\\' || next(json) != 'u') return 0;
    if (!hex4(json, &low) || low < 0xDC00 || low > 0xDFFF) return 0;
    *c = 0x10000 + ((*c - 0xD800) << 10 | (low - 0xDC00));
    return 1;
}

static int read_escape(reader *json, uint32_t *c) {
    if (is_at_end(json)) return 0;
    switch (*c = next(json)) {
    case '"': case '\\': case '/': return 1;
    case 'b': *c = '\b'; return 1;
    case 'f': *c = '\f'; return 1;
    case 'n': *c = '\n'; return 1;
    case 'r': *c = '\r'; return 1;
    case 't': *c = '\t'; return 1;
    case 'u': return read_unicode_escape(json, c);
    default: return 0;
    }
}

/* Reads the rest of a character that stands in UTF-8; 0 if it is broken, too long for its value, or
 * half of one. */
static int read_utf8(reader *json, uint32_t first, uint32_t *c) {
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    uint32_t more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first < 0xC2 || first > 0xF4 || json->end - json->at < more) return 0;
    *c = first & (0x3Fu >> more);
    for (uint32_t byte = 0; byte < more; byte++) {
        uint32_t rest = next(json);
        if ((rest & 0xC0) != 0x80) return 0;
        *c = *c << 6 | (rest & 0x3Fu);
    }
    return *c >= least[more] && *c <= 0x10FFFF && (*c < 0xD800 || *c > 0xDFFF);
}

static int read_character(reader *json, uint32_t *c) {
    uint32_t first = next(json);
    if (first == '\\') return read_escape(json, c);
    if (first >= 0x80) return read_utf8(json, first, c);
    *c = first;
    return first >= 0x20;
}

static int read_string(reader *json, text *into) {
    if (!take(json, '"')) return 0;
    while (!is_at_end(json)) {
        uint32_t c;
        if (peek(json) == '"') {
            json->at++;
            return 1;
        }
        if (!read_character(json, &c)) return 0;
        append(into, c);
    }
    return 0;
}

/* ---- JSON, written --------------------------------------------------------------------------- */

static void write(answer *to, const char *words) {
    while (*words) to->bytes[to->len++] = *words++;
}

static void write_number(answer *to, uint32_t number) {
    if (number >= 10) write_number(to, number / 10);
    to->bytes[to->len++] = (char)('0' + number % 10);
}

/* JSON wants `"`, `\` and control characters escaped; canonical JSON nothing else, and the short form
 * where there is one. */
static void write_escaped(answer *to, const text *from) {
    static const char hex[] = "0123456789abcdef", shorts[] = "btn\0fr" /* U+0008 to U+000D */;
    for (uint32_t at = 0; at < from->len; at++) {
        uint8_t c = (uint8_t)from->bytes[at];
        char letter = c == '"' || c == '\\' ? (char)c : c >= 8 && c <= 13 ? shorts[c - 8] : 0;
        if (letter) {
            to->bytes[to->len++] = '\\';
            to->bytes[to->len++] = letter;
        } else if (c < 0x20) {
            write(to, "\\u00");
            to->bytes[to->len++] = hex[c >> 4];
            to->bytes[to->len++] = hex[c & 15];
        } else {
            to->bytes[to->len++] = (char)c;
        }
    }
}
