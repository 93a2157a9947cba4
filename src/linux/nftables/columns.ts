/**
 * Elements of one set in columns instead of text, for many at once: nobody joins texts that the encoder would have to take apart
 * again, and what neighbours have in common is read once.
 */

export class ElementColumns {
  /** Text of each key, or of all its fields but the last. */
  readonly keys: string[] = [];
  /** The last field of each key, a mark; empty where the keys are whole. */
  readonly numbers: number[] = [];
  /** A text, or the number of a mark; empty for sets, which have no values. */
  readonly values: (string | number)[] = [];

  get length(): number {
    return this.keys.length;
  }

  /** Adds an element. All of one set have the same parts. */
  push(key: string, number: number | undefined, value: string | number | undefined): void {
    this.keys.push(key);
    if (number !== undefined) this.numbers.push(number);
    if (value !== undefined) this.values.push(value);
  }

  /** The same as nft's text: "10.96.0.1 . tcp . 80 . 0 : 10.244.0.2 . 8080". */
  texts(): readonly string[] {
    return this.keys.map((key, i) => {
      const whole = this.numbers.length > 0 ? `${key} . ${this.numbers[i]}` : key;
      return this.values.length > 0 ? `${whole} : ${this.values[i]}` : whole;
    });
  }
}

/** Elements as text, in whichever form they are. */
export function textsOf(elements: readonly string[] | ElementColumns): readonly string[] {
  return elements instanceof ElementColumns ? elements.texts() : elements;
}
