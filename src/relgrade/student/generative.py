"""A decoder that answers in words: the chance of one word against another as its next token, and the reply itself.

It keeps its language-model head; nothing new is put on it. The prompt is that of template `pass-fail`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from relgrade.errors import InvalidSettings
from relgrade.records import Pair
from relgrade.settings import StudentSettings
from relgrade.student.backbone import load_pretrained
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.templates import build_template

ANSWERS = ("PASS", "FAIL")  # relevant, not relevant
MAX_REPLY_TOKENS = 8


@dataclass(frozen=True, slots=True)
class WrittenReply:
    """What the model says after the prompt, always taking the likeliest token."""

    logit: float  # log-odds of PASS against FAIL as the first token
    mass: float  # probability in [0, 1] of either as the first token
    text: str  # up to the end of a line, at most `MAX_REPLY_TOKENS` tokens


class GenerativeStudent(CrossEncoderStudent):
    """A language model that is asked for a verdict; `forward` gives the log-odds of its two words.

    Trained by cross-entropy on the first token of the right word, over the whole vocabulary: -log p(word) is the binary
    cross-entropy of the two words' log-odds, which the loss of the training loop is, plus -log of the probability that
    either has, which is `auxiliary_loss`.
    """

    architecture: ClassVar[str] = "generative"

    @classmethod
    def build(cls, settings: StudentSettings, *, seed: int) -> Self:
        """A pretrained decoder as it is.

        Raises:
            TrainingError: the base cannot be loaded, or is no language model.
            InvalidSettings: another template than `pass-fail`, or two words that begin with the same token.
        """
        if settings.template != "pass-fail":
            raise InvalidSettings(
                f"a model that answers in words needs template 'pass-fail', got {settings.template!r}"
            )
        pretrained = load_pretrained(settings, seed=seed, is_generator=True)
        template = build_template(pretrained.tokenizer, settings, has_type_ids=False)
        student = cls(
            pretrained.backbone,
            pretrained.tokenizer.backend_tokenizer,
            template=template,
            settings=settings,
            head_names=frozenset(),
        )
        student.set_answers(pretrained.tokenizer)
        return student

    def set_answers(self, tokenizer: Any) -> None:
        """Find the tokens that the two words begin with, after a prompt that ends as the template does."""
        last = self.template.suffix[-1]
        is_fresh = last in tokenizer.all_special_ids or tokenizer.decode([last])[-1:].isspace()
        words = [word if is_fresh else f" {word}" for word in ANSWERS]
        ids = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
        if ids[0][0] == ids[1][0]:
            raise InvalidSettings(f"this tokenizer begins {' and '.join(ANSWERS)} with one token; choose another base")
        self._answers = (int(ids[0][0]), int(ids[1][0]))
        self._mass: Tensor | None = None

    def forward(self, **inputs: Tensor) -> Tensor:
        """Log-odds of PASS against FAIL as the next token, shape (n_pairs,), float32."""
        states = self.backbone.base_model(**inputs).last_hidden_state  # (n_pairs, n_tokens, n_hidden)
        last = inputs["attention_mask"].sum(dim=1) - 1
        logits = self._next_logits(states[torch.arange(len(last), device=last.device), last])
        chosen = logits[:, list(self._answers)]  # (n_pairs, 2)
        if self.training:
            self._mass = (logits.logsumexp(dim=1) - chosen.logsumexp(dim=1)).mean()
        return chosen[:, 0] - chosen[:, 1]

    def auxiliary_loss(self) -> Tensor | None:
        """-log of the probability that the first token is one of the two words', mean over the pairs."""
        return self._mass

    @torch.no_grad()
    def reply(self, pair: Pair) -> WrittenReply:
        """Ask about one pair; the document's neighbours in a batch would not change it, and there are none."""
        self.eval()
        device = next(self.parameters()).device
        ids = self.collate([pair])["input_ids"].to(device)
        outputs = self.backbone.base_model(input_ids=ids, use_cache=True)
        logits = self._next_logits(outputs.last_hidden_state[0, -1])
        shares = logits.log_softmax(dim=0)[list(self._answers)]
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

    def _next_logits(self, states: Tensor) -> Tensor:
        """Of the next token, shape (..., n_vocabulary), float32: in bfloat16 a logit of 16 has steps of 1 / 8."""
        with torch.autocast(states.device.type, enabled=False):
            logits: Tensor = self.backbone.get_output_embeddings()(states.float())
        cap = getattr(self.backbone.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _stops(self) -> set[int]:
        ends = self.backbone.config.get_text_config().eos_token_id
        return {*(ends if isinstance(ends, list) else [ends]), self._pad_id} - {None}
