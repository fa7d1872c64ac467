// An image that is not taken; the message is the line that the visitor reads.
export class Refused extends Error {}
