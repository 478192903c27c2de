"""A decoder that answers in words: the chance of one word against another as its next token, and the reply itself.

It keeps its language-model head; nothing new is put on it. The prompt is that of template `pass-fail`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM

from relgrade.errors import InvalidInput, InvalidSettings, TrainingError
from relgrade.records import Pair
from relgrade.settings import StudentSettings
from relgrade.student.backbone import check_length, load_pretrained
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.student_file import STUDENT_FILE_NAME, StudentFile
from relgrade.student.templates import build_template

ANSWERS = ("PASS", "FAIL")  # relevant, not relevant
MAX_REPLY_TOKENS = 8
# Of the largest number compared: what float32 rounds away. A text that is read both ways moves early states by more.
ROUNDING = 1e-4
_NO_TOKEN = -100  # no target here


@dataclass(frozen=True, slots=True)
class WrittenReply:
    """What the model says after the prompt, always taking the likeliest token."""

    logit: float  # log-odds of PASS against FAIL as the first token
    mass: float  # probability in [0, 1] of either as the first token
    text: str  # up to the end of a line, at most `MAX_REPLY_TOKENS` tokens


class GenerativeStudent(CrossEncoderStudent):
    """A language model that is asked for a verdict; `forward` gives the log-odds of its two words.

    Trained by cross-entropy on the right word and the end after it, over the whole vocabulary. For the first token,
    -log p(word) is the binary cross-entropy of the two words' log-odds, which the loss of the training loop is, plus
    -log of the probability that either has. What follows a word is the same whichever is right, so it is taught after
    one of the two, without the label. Both are `auxiliary_loss`.
    """

    architecture: ClassVar[str] = "generative"
    _kind: ClassVar[Any] = AutoModelForCausalLM
    _answers: tuple[tuple[int, ...], tuple[int, ...]]  # the tokens of the two words, each with the end of a reply
    _unlabelled: Tensor | None = None

    @classmethod
    def build(cls, settings: StudentSettings, *, seed: int) -> Self:
        """A pretrained decoder as it is.

        Raises:
            TrainingError: the base cannot be loaded, or is no language model: weights are missing, or it does not
                read from left to right, or makes the next token of more than its last state and output embeddings.
            InvalidSettings: another template than `pass-fail`, more tokens than the base reads with a reply after
                them, two words that begin with the same token, or no token that ends a text.
        """
        if settings.template != "pass-fail":
            raise InvalidSettings(
                f"a model that answers in words needs template 'pass-fail', got {settings.template!r}"
            )
        pretrained = load_pretrained(settings, seed=seed, is_generator=True)
        if pretrained.new_weights:  # output embeddings that are those of the input are not among them
            raise TrainingError(
                f"base model {settings.base!r} is no language model: its checkpoint lacks "
                f"{min(pretrained.new_weights)}; choose a base with its language-model head"
            )
        check_length(pretrained, settings, n_written=MAX_REPLY_TOKENS)
        template = build_template(pretrained.tokenizer, settings, has_type_ids=False)
        student = cls(
            pretrained.backbone,
            pretrained.tokenizer.backend_tokenizer,
            template=template,
            settings=settings,
            head_names=frozenset(),
        )
        student._check_next_token()
        student.set_answers(pretrained.tokenizer)
        return student

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Inverse of `save`; float32, on the CPU.

        Raises:
            InvalidInput: the folder holds no student of this architecture, or a damaged one.
        """
        student = super().load(folder)
        answers: Any = StudentFile.read(Path(folder)).details.get("answers")
        n_tokens = student.tokenizer.get_vocab_size()
        if not _are_answers(answers, n_tokens):
            raise InvalidInput(
                f"{Path(folder) / STUDENT_FILE_NAME}: answers must be the tokens of {' and '.join(ANSWERS)}, each with "
                f"the end of a reply, got {answers!r}; train the student again"
            )
        student._answers = (tuple(answers[0]), tuple(answers[1]))
        return student

    def set_answers(self, tokenizer: Any) -> None:
        """Find the tokens of the two words, after a prompt that ends as the template does, and of the end."""
        last = self.template.suffix[-1]
        is_fresh = last in tokenizer.all_special_ids or tokenizer.decode([last])[-1:].isspace()
        words = [word if is_fresh else f" {word}" for word in ANSWERS]
        ids = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
        if ids[0][0] == ids[1][0]:
            raise InvalidSettings(f"this tokenizer begins {' and '.join(ANSWERS)} with one token; choose another base")
        end = self._end_of_reply(tokenizer)
        self._answers = ((*ids[0], end), (*ids[1], end))

    def _end_of_reply(self, tokenizer: Any) -> int:
        """The token to stop with: the tokenizer's where the base stops at it, else the first that it stops at."""
        ends = self._ends()
        if tokenizer.eos_token_id in ends or not ends:
            ends = [tokenizer.eos_token_id]
        if ends[0] is None:
            raise InvalidSettings(
                f"base model {self.settings.base!r} has no end of a text: eos_token_id is set neither in its "
                "configuration nor in its tokenizer; set it, or choose another base"
            )
        return int(ends[0])

    def forward(self, **inputs: Tensor) -> Tensor:
        """Log-odds of PASS against FAIL as the next token, shape (n_pairs,), float32."""
        last = inputs["attention_mask"].sum(dim=1) - 1
        rest = self._append_words(inputs, last) if self.training else None  # to what comes later states are blind
        states = self.backbone.base_model(**inputs).last_hidden_state  # (n_pairs, n_tokens, n_hidden)
        n_more = 0 if rest is None else rest.shape[1]
        places = last[:, None] + torch.arange(1 + n_more, device=last.device)
        pairs = torch.arange(len(last), device=last.device)[:, None]
        # All places at once: each product would have a gradient of the size of the whole vocabulary.
        logits = self._next_logits(states[pairs, places])  # (n_pairs, 1 + n_more, n_vocabulary)
        chosen = logits[:, 0, self._first_tokens()]  # (n_pairs, 2)
        if rest is not None:
            mass = (logits[:, 0].logsumexp(dim=1) - chosen.logsumexp(dim=1)).mean()
            after = logits[:, 1:].flatten(0, 1)
            ending = functional.cross_entropy(after, rest.flatten(), ignore_index=_NO_TOKEN, reduction="sum")
            self._unlabelled = mass + ending / len(last)
        return chosen[:, 0] - chosen[:, 1]

    def _append_words(self, inputs: dict[str, Tensor], last: Tensor) -> Tensor:
        """Put one of the two words after each prompt in `inputs`; the tokens to say from its first one on.

        Which word follows from the prompt alone, by its tokens' sum: not from the batch, nor from a length that all
        prompts have which are cut. Shape (n_pairs, tokens of the longest word and the end, less the first).
        """
        sums = (inputs["input_ids"] * inputs["attention_mask"]).sum(dim=1)
        chosen = [self._answers[i % len(ANSWERS)] for i in sums.tolist()]
        n_more = max(map(len, self._answers)) - 1
        for name, padding in (("input_ids", self._pad_id), ("attention_mask", 0)):
            inputs[name] = functional.pad(inputs[name], (0, n_more), value=padding)
        rest = torch.full((len(chosen), n_more), _NO_TOKEN, device=last.device)
        for i, (start, tokens) in enumerate(zip(last.tolist(), chosen, strict=True)):
            said = torch.tensor(tokens, device=last.device)
            place = slice(start + 1, start + len(tokens))
            inputs["input_ids"][i, place] = said[:-1]
            inputs["attention_mask"][i, place] = 1
            rest[i, : len(tokens) - 1] = said[1:]
        return rest

    def _first_tokens(self) -> list[int]:
        return [tokens[0] for tokens in self._answers]

    def auxiliary_loss(self) -> Tensor | None:
        """What needs no label: -log p(either word comes first), -log p(the rest and the end after a word); means."""
        taken, self._unlabelled = self._unlabelled, None  # a graph is not copied, nor kept
        return taken

    @torch.no_grad()
    def reply(self, pair: Pair) -> WrittenReply:
        """Ask about one pair; the document's neighbours in a batch would not change it, and there are none."""
        self.eval()
        device = next(self.parameters()).device
        ids = self.collate([pair])["input_ids"].to(device)
        outputs = self.backbone.base_model(input_ids=ids, use_cache=True)
        logits = self._next_logits(outputs.last_hidden_state[0, -1])
        shares = logits.log_softmax(dim=0)[self._first_tokens()]
        written: list[int] = []
        for _ in range(MAX_REPLY_TOKENS):
            token = int(logits.argmax())
            if token in self._stops():
                break
            written.append(token)
            text = self.tokenizer.decode(written)
            if "\n" in text.lstrip():
                break
            step = torch.tensor([[token]], device=device)
            outputs = self.backbone.base_model(input_ids=step, past_key_values=outputs.past_key_values, use_cache=True)
            logits = self._next_logits(outputs.last_hidden_state[0, -1])
        text = self.tokenizer.decode(written).strip().partition("\n")[0]
        return WrittenReply(float(shares[0] - shares[1]), float(shares.exp().sum()), text)

    def _details(self) -> dict[str, Any]:
        return {**super()._details(), "answers": [list(tokens) for tokens in self._answers]}

    @torch.no_grad()
    def _check_next_token(self) -> None:
        """Raise TrainingError unless a token leaves the states before it alone, and the head is what is thought."""
        self.backbone.eval()
        ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]])
        states = self.backbone.base_model(input_ids=ids).last_hidden_state  # (2, 4, n_hidden)
        if (states[0, :-1] - states[1, :-1]).abs().max() > ROUNDING * states.abs().max():
            raise TrainingError(
                f"base model {self.settings.base!r} is no language model: what it makes of a token depends on later "
                "ones, as in an encoder; choose a decoder, or a method that puts a head on the base"
            )
        expected = self.backbone(input_ids=ids).logits[:, -1]
        if (self._next_logits(states[:, -1]) - expected).abs().max() > ROUNDING * expected.abs().max():
            raise TrainingError(
                f"base model {self.settings.base!r} is no language model of the kind that is read here: its logits are "
                "not its output embeddings times its last state; choose another decoder"
            )

    def _next_logits(self, states: Tensor) -> Tensor:
        """Of the next token, shape (..., n_vocabulary), float32: in bfloat16 a logit of 16 has steps of 1 / 8."""
        with torch.autocast(states.device.type, enabled=False):
            logits: Tensor = self.backbone.get_output_embeddings()(states.float())
        cap = getattr(self.backbone.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _ends(self) -> list[int]:
        ends = self.backbone.config.get_text_config().eos_token_id
        return [end for end in (ends if isinstance(ends, list) else [ends]) if end is not None]

    def _stops(self) -> set[int]:
        return {*self._ends(), *(tokens[-1] for tokens in self._answers), self._pad_id}


def _are_answers(found: Any, n_tokens: int) -> bool:
    """Whether a file's `answers` are two lists of a word's tokens and an end."""
    return (
        isinstance(found, list)
        and len(found) == len(ANSWERS)
        and all(isinstance(tokens, list) and len(tokens) > 1 for tokens in found)
        and all(isinstance(token, int) and 0 <= token < n_tokens for tokens in found for token in tokens)
    )
