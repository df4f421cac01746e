// A greeter in JavaScript, as a WebAssembly component.
//
// The component tool reads ../greeter-api/wit and wants an object for each exported interface. What a
// function throws is its own error, a value of the interface's type `greet-error`.

const nameCharactersMax = 100;

export const greeter = {
  greet(name) {
    const characters = [...name].length; // not `name.length`, which counts UTF-16
    if (characters === 0) throw { tag: "empty-name" };
    if (characters > nameCharactersMax) throw { tag: "too-long", val: characters };
    return `Hello, ${name}!`;
  },
};
