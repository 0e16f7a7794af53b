//! A device's packets, by every carrier: every spike and every sample arrives as it was sent, and what did not is counted; the
//! clocks; and a whole run with predictions back.

mod carriers;
mod clocks;
mod harness;
mod packets;
mod run;
mod terminals;
