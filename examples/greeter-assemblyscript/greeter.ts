// A greeter in AssemblyScript, as an Extism plugin.
//
// The order of this file: the call, then just enough JSON to read {"name":"Ada"} and to write
// "Hello, Ada!". AssemblyScript has no exceptions, so what can fail returns null.
import { Host, Memory } from "@extism/as-pdk";
import { error_set } from "@extism/as-pdk/lib/env";

const NAME_CHARACTERS_MAX = 100;

// What the exported function returns. With the first two, what is given back is a value of the
// interface: the result, or {"err":…} with the greeter's own error. With the third it is a sentence.
enum Status { Ok = 0, OwnError = 1, Failed = 2 }

export function greet(): i32 {
  const given = readArguments(new Reader(Host.inputString()));
  const name = given.name;
  if (name == null) return fail(Status.Failed, given.wrong);
  const characters = count(name);
  if (characters == 0) return fail(Status.OwnError, '{"err":{"tag":"empty-name"}}');
  if (characters > NAME_CHARACTERS_MAX) {
    return fail(Status.OwnError, `{"err":{"tag":"too-long","val":${characters}}}`);
  }
  // Not `Host.outputString`, which takes the length in UTF-16 for the length in bytes.
  Host.outputMemory(Memory.allocateString(quote(`Hello, ${name}!`)));
  return Status.Ok;
}

function fail(status: Status, text: string): i32 {
  error_set(Memory.allocateString(text).offset);
  return status;
}

// A character is a Unicode scalar value; a string here is UTF-16, where some take two units.
function count(text: string): i32 {
  let characters = 0;
  for (let at = 0; at < text.length; at++) {
    if (!isLowHalf(text.charCodeAt(at))) characters++;
  }
  return characters;
}

// ---- JSON, read ------------------------------------------------------------------------------

// The name, or what is wrong with the arguments.
class Arguments {
  constructor(public name: string | null, public wrong: string) {}
}

// Reads {"name":"…"}, exactly.
function readArguments(json: Reader): Arguments {
  const noName = new Arguments(null, "`greet` wants the argument `name`, a string");
  const noSuch = new Arguments(null, "`greet` has one argument, `name`");
  const noJson = new Arguments(null, "the arguments are not a JSON object");

  if (json.isAtEnd()) return noName;
  if (!json.take("{")) return noJson;
  if (json.take("}")) return noName;
  const key = json.readString();
  if (key == null || !json.take(":")) return noJson;
  if (key != "name") return noSuch;
  const name = json.readString();
  if (name == null) return noName;
  if (json.take(",")) return noSuch;
  if (!json.take("}") || !json.isAtEnd()) return noJson;
  return new Arguments(name, "");
}

class Reader {
  private at: i32 = 0;

  constructor(private text: string) {}

  // Whether only white space is left.
  isAtEnd(): bool {
    this.skipSpace();
    return this.at == this.text.length;
  }

  // Skips white space and takes one mark, if it comes next.
  take(mark: string): bool {
    if (this.isAtEnd() || this.text.charAt(this.at) != mark) return false;
    this.at++;
    return true;
  }

  // The next string, or null if none comes or it is broken.
  readString(): string | null {
    if (!this.take('"')) return null;
    let read = "";
    while (this.at < this.text.length) {
      const start = this.at;
      let unit = this.next();
      if (unit == 0x22 /* " */) return isWhole(read) ? read : null;
      if (unit < 0x20) return null;
      if (unit != 0x5c /* \ */) {
        read += this.text.charAt(start);
        continue;
      }
      unit = this.readEscape();
      if (unit < 0) return null;
      read += String.fromCharCode(unit);
    }
    return null;
  }

  private skipSpace(): void {
    while (this.at < this.text.length && " \t\r\n".includes(this.text.charAt(this.at))) this.at++;
  }

  private next(): i32 {
    return this.text.charCodeAt(this.at++);
  }

  // What follows a backslash, as a unit of UTF-16; -1 if it means nothing.
  private readEscape(): i32 {
    if (this.at == this.text.length) return -1;
    const letter = this.text.charAt(this.at++);
    if (letter == "u") return this.readHex();
    const which = '"\\/bfnrt'.indexOf(letter);
    return which < 0 ? -1 : '"\\/\b\f\n\r\t'.charCodeAt(which);
  }

  private readHex(): i32 {
    if (this.text.length - this.at < 4) return -1;
    let unit = 0;
    for (let digit = 0; digit < 4; digit++) {
      const value = "0123456789abcdef".indexOf(this.text.charAt(this.at++).toLowerCase());
      if (value < 0) return -1;
      unit = (unit << 4) | value;
    }
    return unit;
  }
}

// Half of a character is none: JSON can write it, \ud83d, but it stands for nothing.
function isWhole(text: string): bool {
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (isLowHalf(unit)) return false;
    if (unit < 0xd800 || unit > 0xdbff) continue;
    if (++at == text.length || !isLowHalf(text.charCodeAt(at))) return false;
  }
  return true;
}

function isLowHalf(unit: i32): bool {
  return unit >= 0xdc00 && unit <= 0xdfff;
}

// ---- JSON, written ---------------------------------------------------------------------------

// JSON wants `"`, `\` and control characters escaped; canonical JSON nothing else, and the short form
// where there is one.
function quote(text: string): string {
  let out = '"';
  for (let at = 0; at < text.length; at++) {
    const c = text.charAt(at);
    const which = '"\\\b\f\n\r\t'.indexOf(c);
    if (which >= 0) out += "\\" + '"\\bfnrt'.charAt(which);
    else if (c < " ") out += "\\u00" + (c < "\x10" ? "0" : "1") + (c.charCodeAt(0) & 15).toString(16);
    else out += c;
  }
  return out + '"';
}
